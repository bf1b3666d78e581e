"""MAWU: alignment with a learned margin per user and item, uniformity weighted for each side."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from contrarec.config import require_not_negative, settle
from contrarec.losses.base import Loss, positive_rows
from contrarec.losses.functional import margin_alignment, uniformity


@dataclass(frozen=True, kw_only=True)
class MAWUConfig:
    """MAWU: how much the uniformity of each side counts."""

    gamma_user: float = 1.0
    """Weight of the users' uniformity ("gamma1"); published .8 to 2.6."""
    gamma_item: float = 0.1
    """Weight of the items' uniformity ("gamma2"); published .1 to 1.6."""

    def __post_init__(self) -> None:
        settle(self)
        require_not_negative(self, "gamma_user", "gamma_item")


class MAWU(Loss):
    """MAWU: alignment with a learned margin per user and item, uniformity weighted for each side.

    `−mean cos(min(θ_ui + 1 − sigmoid(m_u + m_i), π)) + γ1·U(users) + γ2·U(items)`, θ the angle of
    a positive pair; the `m` are learned along with the model and kept within [0, 1].

    Needs `outputs`, `users` and `pos_items`; memory of a step is `O(B²)`.

    Source:
        Park et al., "Toward a Better Understanding of Loss Functions for Collaborative Filtering",
        CIKM 2023 (arXiv 2308.06091).

    Deviations:
        The authors' code averages each uniformity over a full matrix in which every entry outside
        the lower triangle stands for a distance of 2; here the pairs alone count. The `m` start at
        0 instead of near it.

    Relations:
        With `m → ∞` (no margin) and γ1 = γ2 = γ/4 it is half of DirectAU, less 1.

    >>> loss, U, V = MAWU(n_users=2, n_items=2), torch.eye(2), -torch.eye(2)
    >>> both = torch.arange(2)  # opposite pairs: the angle stops at π; 1 + (1 + .1)·(−4)
    >>> loss(-torch.ones(2), torch.zeros(2, 1), users=both, pos_items=both, outputs=(U, V))
    tensor(-3.4000, grad_fn=<AddBackward0>)
    """

    config_class: ClassVar[type[MAWUConfig]] = MAWUConfig
    config: MAWUConfig
    uses_negatives = False
    row_sparse = False

    def __init__(
        self, config: MAWUConfig | None = None, *, n_users: int, n_items: int, **about: Any
    ) -> None:
        super().__init__(config, n_users=n_users, n_items=n_items, **about)
        self.users = nn.Parameter(torch.zeros(n_users))
        self.items = nn.Parameter(torch.zeros(n_items))

    def learned(self) -> Iterable[nn.Parameter]:
        """Return the `m` of users and items."""
        return self.users, self.items

    @torch.no_grad()
    def after_backward(self) -> None:
        """Keep the `m` within [0, 1]."""
        for values in self.learned():
            values.clamp_(0, 1)

    def batch_loss(
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,  # noqa: ARG002
        **context: Any,
    ) -> torch.Tensor:
        """Return the loss of a batch, `[]`."""
        users, items = positive_rows(context)
        margin = 1 - torch.sigmoid(self.users[context["users"]] + self.items[context["pos_items"]])
        spread = self.config.gamma_user * uniformity(users)
        spread = spread + self.config.gamma_item * uniformity(items)
        loss: torch.Tensor = margin_alignment(pos, margin).mean() + spread
        return loss
