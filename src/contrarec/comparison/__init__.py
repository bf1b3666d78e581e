"""Comparing methods fairly: train each with several seeds, evaluate, test, make one table."""

from contrarec.comparison.leaders import Leaders
from contrarec.comparison.run import Job, compare
from contrarec.comparison.table import Comparison, Contrast, Row

__all__ = ["Comparison", "Contrast", "Job", "Leaders", "Row", "compare"]
