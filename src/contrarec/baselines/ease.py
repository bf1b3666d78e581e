"""EASE: the best linear map from histories to histories that takes no item for itself."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from contrarec.baselines.base import Baseline, binary
from contrarec.config import require, settle
from contrarec.data.interactions import Interactions
from contrarec.errors import ConfigError
from contrarec.evaluation.ranking import Scorer

_PAIR_BYTES = 16  # for each pair of items, two float64: a matrix and its factor, or its inverse
_BLOCK_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class EASEConfig:
    """Hyper-parameters of EASE."""

    lam: float = 500.0
    """Weight of `‖B‖²`; 200 to 1,000 in the paper, on data of 10⁵ users and more."""
    max_gb: float = 8.0
    """Gigabytes that fitting may take: 16 bytes for each pair of items, so 22,000 items."""

    def __post_init__(self) -> None:
        settle(self)
        require(0 < self.lam < math.inf, "lam", "be positive", self.lam)
        require(0 < self.max_gb < math.inf, "max_gb", "be positive", self.max_gb)


class EASE(Baseline):
    """Ridge regression of every item on all others, solved at once.

    `B = argmin ‖X − XB‖² + lam ‖B‖²` subject to `diag(B) = 0`, with `X [n_users, n_items]` the
    interactions as ones: `B_ij = −P_ij / P_jj` for i ≠ j, with `P = (XᵀX + lam I)⁻¹`. The score of
    item j for a user is the sum of `B_ij` over the items i of its history.

    **Source**: Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019, equation 8.
    """

    config_class: ClassVar[type[Any]] = EASEConfig
    rows: ClassVar[Mapping[str, str]] = {"weights": "n_items"}

    @classmethod
    def check(cls, train: Interactions, config: EASEConfig) -> None:
        """Raise if fitting would take more memory than `max_gb`.

        Raises:
            ConfigError: there are too many items; the message says how much it would take.
        """
        wanted = _PAIR_BYTES * train.n_items**2 / 1e9
        if wanted > config.max_gb:
            raise ConfigError(
                f"`max_gb` must be at least {math.ceil(wanted * 10) / 10:,} for EASE on "
                f"{train.n_items:,} items, {_PAIR_BYTES} bytes for each pair of them, got "
                f"{config.max_gb:g}; item-KNN takes no such matrix."
            )

    @classmethod
    def fit(
        cls,
        train: Interactions,
        config: EASEConfig,
        rng: np.random.Generator,  # noqa: ARG003
    ) -> Self:
        """Solve for the weights, in float64; they are kept in float32, `[n_items, n_items]`."""
        cls.check(train, config)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(_gram(train, config.lam)))
        inverse /= -inverse.diagonal().clone()  # each column j by its own P_jj
        weights = inverse.float().contiguous().fill_diagonal_(0.0)
        return cls({"weights": weights}, train, config)

    def fold_in(self, history: Interactions) -> Scorer:
        """Return the scorer for the users of a history."""
        pairs, weights = binary(history), self.tensors["weights"].numpy()

        def score(users: NDArray[np.int64], /) -> torch.Tensor:
            return torch.from_numpy(pairs[users] @ weights)  # [b, n_items]

        return score

    def similar(self) -> Scorer:
        """Return the scorer of the items that a history of one item is offered."""
        weights = self.tensors["weights"]

        def score(items: NDArray[np.int64], /) -> torch.Tensor:
            return weights[torch.from_numpy(items)]

        return score


def _gram(train: Interactions, lam: float) -> torch.Tensor:
    """Return `XᵀX + lam I`, float64 `[n_items, n_items]`."""
    pairs = binary(train).astype(np.float64)
    by_item = pairs.T.tocsr()
    gram = np.empty((train.n_items, train.n_items))
    step = max(1, _BLOCK_BYTES // (8 * train.n_items))
    for start in range(0, train.n_items, step):
        gram[start : start + step] = (by_item[start : start + step] @ pairs).toarray()
    np.einsum("ii->i", gram)[:] += lam
    return torch.from_numpy(gram)
