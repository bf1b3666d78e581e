"""What a baseline is: fitted from the training interactions at one go, without gradient steps.

Every interaction counts as one, whatever its weight. Fitting and scoring happen on the CPU.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch

from contrarec.data.interactions import Interactions
from contrarec.errors import DataError
from contrarec.evaluation.ranking import Scorer

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class Baseline(ABC):
    """A fitted baseline; made by `fit`, or from the tensors that an earlier one left.

    Args:
        tensors: what was fitted, by the names in `rows`.
        history: the training interactions.
        config: the hyper-parameters.

    Raises:
        DataError: the tensors are not this baseline's for these interactions.
    """

    config_class: ClassVar[type[Any]]
    """Its hyper-parameters, a dataclass."""
    rows: ClassVar[Mapping[str, str]]
    """Name of each tensor, and what its rows stand for: `n_users` or `n_items`."""

    def __init__(
        self, tensors: Mapping[str, torch.Tensor], history: Interactions, config: Any
    ) -> None:
        wanted = {name: getattr(history, rows) for name, rows in self.rows.items()}
        given = {name: len(tensor) for name, tensor in tensors.items()}
        if given != wanted:
            raise DataError(f"tensors must have the rows {wanted}, got {given}.")
        self.tensors, self.history, self.config = dict(tensors), history, config

    @classmethod
    def check(cls, train: Interactions, config: Any) -> None:  # noqa: ARG003
        """Raise where `fit` would, too much memory or a missing library, before a run begins."""
        return

    @classmethod
    @abstractmethod
    def fit(cls, train: Interactions, config: Any, rng: np.random.Generator) -> Self:
        """Fit to the training interactions.

        Args:
            train: who interacted with what.
            config: the hyper-parameters.
            rng: source of initial values, where there are any.
        """

    def scorer(self) -> Scorer:
        """Return the scorer of all items for the users of training."""
        return self.fold_in(self.history)

    @abstractmethod
    def fold_in(self, history: Interactions) -> Scorer:
        """Return the scorer of all items for the users of another history of the same items."""

    @abstractmethod
    def similar(self) -> Scorer:
        """Return the scorer of all items for an item: how near they are to it.

        Raises:
            ConfigError: the baseline does not tell items apart by their users.
        """


def binary(history: Interactions) -> "csr_matrix":
    """Return a float32 matrix of ones, `[n_users, n_items]`."""
    return replace(history, weight=None).to_scipy()
