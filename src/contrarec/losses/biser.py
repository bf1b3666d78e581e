"""BISER: two models that weigh clicks by their own predictions and learn from each other."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from contrarec.config import require, require_not_negative, settle
from contrarec.kernels.scores import sampled_scores
from contrarec.losses.base import Loss, generator_of, take
from contrarec.losses.functional import self_unbiased


@dataclass(frozen=True, kw_only=True)
class BISERConfig:
    """BISER: how much the two models are drawn together."""

    weight: float = 0.1
    """Weight of the squared difference of the two predictions; .1 unless told, in the code."""
    floor: float = 0.1
    """Smallest propensity; .1 in the code."""

    def __post_init__(self) -> None:
        settle(self)
        require_not_negative(self, "weight")
        require(0 < self.floor <= 1, "floor", "be in (0, 1]", self.floor)


class BISER(Loss):
    """BISER: two models that weigh clicks by their own predictions and learn from each other.

    `L(s) + L(s') + λ·((y − sg y')² + (y' − sg y)²)`: L is `functional.self_unbiased`, s the model's
    scores and s' those of a second pair of tables, y and y' the sigmoids of the positives' scores.

    Needs `n_users`, `n_items`, `dim` and, in a call, `users`, `pos_items` and `neg_items`.

    Source:
        Lee et al., "Bilateral Self-unbiased Learning from Biased Implicit Feedback", SIGIR 2022
        (arXiv 2207.12660).

    Deviations:
        Only the two ideas are the paper's: self-inverse propensities, and two models that draw
        each other's predictions together. Its models are autoencoders, one over the rows of users
        and one over those of items, and its recommendations are the mean of both; here they are the
        backbone and a second pair of tables, which differ by where they start, and the backbone
        recommends. Those of `functional.self_unbiased` come on top.

    Relations:
        weight = 0: the model learns as from `functional.self_unbiased` alone.
    """

    config_class: ClassVar[type[BISERConfig]] = BISERConfig
    config: BISERConfig
    similarity = "dot"
    row_sparse = False

    def __init__(
        self,
        config: BISERConfig | None = None,
        *,
        n_users: int,
        n_items: int,
        dim: int,
        **about: Any,
    ) -> None:
        super().__init__(config, n_users=n_users, n_items=n_items, dim=dim, **about)
        generator = generator_of(about.get("rng"))
        self.users = nn.Parameter(torch.empty(n_users, dim))
        self.items = nn.Parameter(torch.empty(n_items, dim))
        for table in self.learned():
            nn.init.xavier_normal_(table, generator=generator)

    def learned(self) -> Iterable[nn.Parameter]:
        """Return the second model's tables."""
        return self.users, self.items

    def per_row(
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,
        **context: Any,
    ) -> torch.Tensor:
        """Return the losses `[B]`."""
        config = self.config
        users, pos_items, neg_items = take(context, "users", "pos_items", "neg_items")
        items = torch.cat([pos_items[:, None], neg_items], 1)  # [B, 1 + N]
        scores = sampled_scores(self.users, self.items, users, items)
        other_pos, other_neg = scores[:, 0], scores[:, 1:]
        y, other = torch.sigmoid(pos), torch.sigmoid(other_pos)
        apart = (y - other.detach()).square() + (other - y.detach()).square()
        alone = self_unbiased(pos, neg, floor=config.floor)
        loss: torch.Tensor = (
            alone + self_unbiased(other_pos, other_neg, floor=config.floor) + config.weight * apart
        )
        return loss
