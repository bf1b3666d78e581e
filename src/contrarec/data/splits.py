"""Ways to hold interactions out of a log."""

from typing import Protocol

import numpy as np

from contrarec.data.interactions import Interactions


class Split(Protocol):
    """A way to hold interactions out."""

    def take(self, log: Interactions, rng: np.random.Generator) -> np.ndarray:
        """Return which interactions are held out: bool `[nnz]`."""

    def account(self, log: Interactions, taken: np.ndarray) -> str:
        """Say in a phrase what was asked for and what came of it."""
