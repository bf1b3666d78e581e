"""Implicit ALS: weighted matrix factorisation, fitted by the `implicit` library."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F

from contrarec.baselines.base import Baseline, binary
from contrarec.config import require, settle
from contrarec.data.interactions import Interactions
from contrarec.errors import BackendError
from contrarec.evaluation.ranking import Scorer, dot_scorer


@dataclass(frozen=True, kw_only=True)
class ALSConfig:
    """Hyper-parameters of implicit ALS."""

    factors: int = 64
    """Length of a vector."""
    alpha: float = 40.0
    """What an interaction adds to the confidence of 1 that every pair has; 40 in the paper."""
    reg: float = 100.0
    """Weight of `‖x_u‖²` and `‖y_i‖²`."""
    iterations: int = 15
    """How often the users are solved for, and then the items."""

    def __post_init__(self) -> None:
        settle(self)
        for name in ("factors", "iterations"):
            require(getattr(self, name) >= 1, name, "be at least 1", getattr(self, name))
        for name in ("alpha", "reg"):
            require(0 < getattr(self, name) < math.inf, name, "be positive", getattr(self, name))


class ALS(Baseline):
    """Weighted least squares on all pairs: 1 for an interaction, 0 for every other pair.

    `Σ_ui c_ui (p_ui − x_uᵀ y_i)² + reg (Σ_u ‖x_u‖² + Σ_i ‖y_i‖²)` with `c_ui = 1 + alpha` for an
    interaction and 1 for any other pair. A user's vector is
    `x_u = (YᵀY + alpha Σ_{i∈u} y_i y_iᵀ + reg I)⁻¹ (1 + alpha) Σ_{i∈u} y_i`, which `fold_in` solves
    exactly.

    **Source**: Hu, Koren and Volinsky, "Collaborative filtering for implicit feedback datasets",
    ICDM 2008.

    **Deviations**: the library takes three steps of conjugate gradients from the last iteration's
    vector instead of solving (Takács, Pilászy and Tikk, RecSys 2011).
    """

    config_class: ClassVar[type[Any]] = ALSConfig
    rows: ClassVar[Mapping[str, str]] = {"user_vectors": "n_users", "item_vectors": "n_items"}

    @classmethod
    def check(cls, train: Interactions, config: ALSConfig) -> None:  # noqa: ARG003
        """Raise if the library is missing.

        Raises:
            BackendError: it is; the message says how to install it.
        """
        _library()

    @classmethod
    def fit(cls, train: Interactions, config: ALSConfig, rng: np.random.Generator) -> Self:
        """Fit both tables; the result does not depend on the number of threads."""
        library = _library()
        from threadpoolctl import threadpool_limits  # a requirement of the library's

        with threadpool_limits(1, "blas"):  # the library has threads of its own
            solver = library(
                factors=config.factors,
                regularization=config.reg,
                iterations=config.iterations,
                num_threads=torch.get_num_threads(),
                random_state=rng,
            )
            solver.fit(binary(train) * np.float32(1 + config.alpha), show_progress=False)
        tensors = {
            "user_vectors": torch.from_numpy(solver.user_factors),
            "item_vectors": torch.from_numpy(solver.item_factors),
        }
        return cls(tensors, train, config)

    def scorer(self) -> Scorer:
        """Return the scorer for the users of training, from the vectors that were fitted."""
        return dot_scorer(self.tensors["user_vectors"], self.tensors["item_vectors"])

    def fold_in(self, history: Interactions) -> Scorer:
        """Return the scorer for the users of a history, whose vectors are solved for."""
        items = self.tensors["item_vectors"].double()
        offered = items.T @ items + self.config.reg * torch.eye(items.shape[1])
        users = torch.zeros(history.n_users, items.shape[1])
        for user in history.user_counts.nonzero()[0]:
            own = history.indices[history.indptr[user] : history.indptr[user + 1]]
            liked = items[torch.from_numpy(own).long()]  # [p, factors]
            system = offered + self.config.alpha * liked.T @ liked
            users[user] = torch.linalg.solve(system, (1 + self.config.alpha) * liked.sum(0))
        return dot_scorer(users, self.tensors["item_vectors"])

    def similar(self) -> Scorer:
        """Return the scorer by the cosine of the items' vectors."""
        unit = F.normalize(self.tensors["item_vectors"])
        return dot_scorer(unit, unit)


def _library() -> Any:
    try:
        from implicit.cpu.als import AlternatingLeastSquares
    except ImportError as error:
        raise BackendError(
            f"'als' needs the package implicit: pip install 'contrarec[als]' ({error})."
        ) from error
    return AlternatingLeastSquares
