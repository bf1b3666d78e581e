"""uCTRL: alignment weighted by inverse propensities from a space of relations of its own."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from contrarec.config import require_not_negative, settle
from contrarec.errors import ConfigError
from contrarec.losses.base import History, Loss, generator_of, positive_rows
from contrarec.losses.functional import alignment, uniformity

_POPULAR = 0.8  # the quantile of the counts above which a row is popular


@dataclass(frozen=True, kw_only=True)
class UCTRLConfig:
    """uCTRL: how much the uniformity of each space counts."""

    gamma: float = 1.0
    """Weight of the uniformity of the model's vectors ("gamma2"); published 1."""
    gamma_relation: float = 1.0
    """Weight of the uniformity of the relation space ("gamma1"); published .01 to 1."""

    def __post_init__(self) -> None:
        settle(self)
        require_not_negative(self, "gamma", "gamma_relation")


class UCTRL(Loss):
    """uCTRL: alignment weighted by inverse propensities from a space of relations of its own.

    `mean(‖u − i‖² / w_ui) + γ·U + mean ‖r_u − r_i‖² + γ_r·U_r`, `w_ui = sigmoid(⟨r_u, r_i⟩)`. The
    relation vectors r are the model's vectors times one matrix for popular and one for unpopular
    rows, on the unit sphere. The model's vectors are constants for them, and w is one for the
    model. U is the mean uniformity of users and items, U_r that of their relation vectors.

    Needs `history`, `dim` and, in a call, `outputs`, `users` and `pos_items`; memory of a step is
    `O(B²)`.

    Args:
        config: hyper-parameters; the defaults if None.
        n_items: number of items.
        dim: dimension of the backbone's tables.
        history: says which users and items are popular: those with more interactions than 80 % of
            the rows that have any.
        about: `rng` draws the matrices.

    Raises:
        ConfigError: `history` is missing.

    Source:
        Lee et al., "uCTRL: Unbiased Contrastive Representation Learning via Alignment and
        Uniformity for Collaborative Filtering", SIGIR 2023 (arXiv 2305.12768), and its code.

    Deviations:
        The code's floor of .1 under w is left out: w of unit vectors is at least sigmoid(−1) = .27.

    Relations:
        Identity matrices for users and their negatives for items, on aligned pairs: every w is
        sigmoid(−1). With w constant the first half is DirectAU with a rescaled alignment.
    """

    config_class: ClassVar[type[UCTRLConfig]] = UCTRLConfig
    config: UCTRLConfig
    uses_negatives = False
    row_sparse = False
    popular_users: torch.Tensor
    popular_items: torch.Tensor

    def __init__(
        self,
        config: UCTRLConfig | None = None,
        *,
        n_items: int,
        dim: int,
        history: History | None = None,
        **about: Any,
    ) -> None:
        super().__init__(config, n_items=n_items, dim=dim, history=history, **about)
        if history is None:
            raise ConfigError("`history` must be given with uCTRL, got None.")
        item_counts = np.bincount(history.indices, minlength=n_items)
        self.register_buffer("popular_users", _popular(np.diff(history.indptr)))
        self.register_buffer("popular_items", _popular(item_counts))
        generator = generator_of(about.get("rng"))
        self.users = nn.Parameter(torch.empty(2, dim, dim))
        self.items = nn.Parameter(torch.empty(2, dim, dim))
        for matrices in self.learned():
            for matrix in matrices:
                nn.init.xavier_normal_(matrix, generator=generator)

    def learned(self) -> Iterable[nn.Parameter]:
        """Return the matrices of users and items: unpopular, popular."""
        return self.users, self.items

    def batch_loss(
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,  # noqa: ARG002
        **context: Any,
    ) -> torch.Tensor:
        """Return the loss of a batch, `[]`."""
        users, items = positive_rows(context)
        user_relations = _relations(users, self.users, self.popular_users[context["users"]])
        item_relations = _relations(items, self.items, self.popular_items[context["pos_items"]])
        cosine = (user_relations * item_relations).sum(1)  # [B]
        aligned = (alignment(pos) / torch.sigmoid(cosine.detach())).mean()
        spread = self.config.gamma * (uniformity(users) + uniformity(items)) / 2
        related = uniformity(user_relations) + uniformity(item_relations)
        loss: torch.Tensor = (
            aligned + spread + alignment(cosine).mean() + self.config.gamma_relation * related / 2
        )
        return loss


def _popular(counts: np.ndarray) -> torch.Tensor:
    """Tell which rows have more interactions than the given share of those that have any."""
    present = np.sort(counts[counts > 0])
    threshold = present[int(_POPULAR * len(present)) - 1] if len(present) else 0
    return torch.from_numpy(counts > threshold)


def _relations(
    vectors: torch.Tensor, matrices: torch.Tensor, popular: torch.Tensor
) -> torch.Tensor:
    """Map vectors `[B, dim]`, as constants, by the matrix of their group, to length 1."""
    directions = F.normalize(vectors.detach())
    mapped = torch.where(popular[:, None], directions @ matrices[1], directions @ matrices[0])
    return F.normalize(mapped)
