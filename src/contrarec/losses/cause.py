"""CausE: a second item table for a control sample without popularity, kept near the first."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from contrarec.config import require_not_negative, settle
from contrarec.kernels.scores import sampled_scores
from contrarec.losses.base import Loss, generator_of, take
from contrarec.losses.functional import alignment, bpr
from contrarec.losses.ips import known_counts

_TINY = 1e-12  # under the root: equal tables have a gradient, too


@dataclass(frozen=True, kw_only=True)
class CausEConfig:
    """CausE: how near the two item tables are kept, and how large the control sample is."""

    penalty: float = 0.05
    """Weight of the distance between the tables; .05 in the ports."""
    share: float = 0.1
    """Share of the interactions of an item of mean popularity that are control; it is inversely
    proportional to popularity. .1 in the ports."""

    def __post_init__(self) -> None:
        settle(self)
        require_not_negative(self, "penalty", "share")


class CausE(Loss):
    """CausE: a second item table for a control sample without popularity, kept near the first.

    `mean BPR + β·sqrt(Σ_b (d_b⁺ + mean_j d_bj⁻))`. A row of the control sample is scored with the
    control table, any other with the model's; d is the squared distance of an item's two vectors
    at length 1. Recommends with the model's table.

    An interaction (u, i) is control with probability `min(share·n̄/n_i, 1)`, decided once and for
    all: every item has as many control interactions as any other. n_i counts an item's
    interactions, n̄ is their mean over the items that have any.

    Needs `item_counts`, `n_users`, `n_items`, `dim` and, in a call, `outputs`, `users`, `pos_items`
    and `neg_items`.

    Raises:
        ConfigError: `item_counts` is missing or has another length than `n_items`.

    Source:
        Bonner & Vasile, "Causal Embeddings for Recommendation", RecSys 2018 ("CausE-prod"), with
        the control sample of the ports by the authors of BC loss and AdvInfoNCE.

    Deviations:
        The ports normalise over the batch instead of over each vector, draw the control sample anew
        every time, and leave items out of it whose probability would be 1 or more. Any number of
        negatives: their mean. The control table is under no L2.

    Relations:
        penalty = share = 0 is BPR.
    """

    config_class: ClassVar[type[CausEConfig]] = CausEConfig
    config: CausEConfig
    similarity = "dot"
    row_sparse = False
    probability: torch.Tensor
    user_phase: torch.Tensor
    item_phase: torch.Tensor

    def __init__(
        self,
        config: CausEConfig | None = None,
        *,
        n_users: int,
        n_items: int,
        dim: int,
        item_counts: Any = None,
        **about: Any,
    ) -> None:
        super().__init__(
            config, n_users=n_users, n_items=n_items, dim=dim, item_counts=item_counts, **about
        )
        counts = torch.from_numpy(known_counts(item_counts, n_items)).float()
        mean = counts.sum() / counts.count_nonzero().clamp(min=1)
        generator = generator_of(about.get("rng"))
        probability = (self.config.share * mean / counts.clamp(min=1)).clamp(max=1)
        self.register_buffer("probability", probability)
        # the fraction of the sum of two uniform numbers is uniform, and independent between pairs
        self.register_buffer("user_phase", torch.rand(n_users, generator=generator))
        self.register_buffer("item_phase", torch.rand(n_items, generator=generator))
        self.control = nn.Parameter(torch.empty(n_items, dim))
        nn.init.xavier_normal_(self.control, generator=generator)

    def learned(self) -> Iterable[nn.Parameter]:
        """Return the control table."""
        return (self.control,)

    def in_control(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Tell which interactions belong to the control sample, `[B]`."""
        phase = (self.user_phase[users] + self.item_phase[items]) % 1
        return phase < self.probability[items]

    def batch_loss(
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,
        **context: Any,
    ) -> torch.Tensor:
        """Return the loss of a batch, `[]`."""
        outputs, users = take(context, "outputs", "users")
        pos_items, neg_items = take(context, "pos_items", "neg_items")
        items = torch.cat([pos_items[:, None], neg_items], 1)  # [B, 1 + N]
        control = sampled_scores(outputs[0], self.control, users, items)
        is_control = self.in_control(users, pos_items)
        pos = torch.where(is_control, control[:, 0], pos)
        neg = torch.where(is_control[:, None], control[:, 1:], neg)
        cosine = (F.normalize(outputs[1]) * F.normalize(self.control)).sum(1)
        distance = alignment(cosine)[items]
        apart = (distance[:, 0] + distance[:, 1:].mean(1)).sum()
        loss: torch.Tensor = (
            bpr(pos, neg).mean() + self.config.penalty * (apart.clamp(min=0) + _TINY).sqrt()
        )
        return loss
