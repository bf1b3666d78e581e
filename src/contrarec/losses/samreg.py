"""SAM-REG: BPR whose success must not go along with the popularity of the positive."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from contrarec.config import require, settle
from contrarec.losses.base import Loss, take
from contrarec.losses.functional import sam_reg
from contrarec.losses.ips import known_counts


@dataclass(frozen=True, kw_only=True)
class SAMREGConfig:
    """SAM-REG: how much the correlation with popularity counts."""

    weight: float = 0.05
    """Weight of the squared correlation, the rest is BPR's; .05 in the ports."""

    def __post_init__(self) -> None:
        settle(self)
        require(0 <= self.weight <= 1, "weight", "be between 0 and 1", self.weight)


class SAMREG(Loss):
    """SAM-REG: BPR whose success must not go along with the popularity of the positive.

    `functional.sam_reg` with the items' shares of the most popular one's interactions.

    Needs `item_counts` and, in a call, `pos_items`.

    Raises:
        ConfigError: `item_counts` is missing or has another length than `n_items`.
    """

    config_class: ClassVar[type[SAMREGConfig]] = SAMREGConfig
    similarity = "dot"
    popularity: torch.Tensor

    def __init__(
        self,
        config: SAMREGConfig | None = None,
        *,
        item_counts: Any = None,
        n_items: int | None = None,
        **about: Any,
    ) -> None:
        super().__init__(config, item_counts=item_counts, n_items=n_items, **about)
        counts = known_counts(item_counts, n_items)
        shares = torch.from_numpy(counts / max(counts.max(initial=1), 1)).float()
        self.register_buffer("popularity", shares)

    def batch_loss(self, pos: torch.Tensor, neg: torch.Tensor, **context: Any) -> torch.Tensor:
        """Return the loss of a batch, `[]`."""
        (pos_items,) = take(context, "pos_items")
        return sam_reg(pos, neg, self.popularity[pos_items], weight=self.config.weight)
