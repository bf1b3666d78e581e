"""Tuning methods fairly: the same number of trials for each, on the validation set alone."""

from contrarec.tuning.result import Finding, Tuning
from contrarec.tuning.run import Trial, tune
from contrarec.tuning.spaces import Range, search_space

__all__ = ["Finding", "Range", "Trial", "Tuning", "search_space", "tune"]
