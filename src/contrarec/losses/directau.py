"""DirectAU: alignment of the positives, uniformity of users and of items, no negatives."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from contrarec.config import require_not_negative, settle
from contrarec.losses.base import Loss, positive_rows
from contrarec.losses.functional import alignment, uniformity


@dataclass(frozen=True, kw_only=True)
class DirectAUConfig:
    """DirectAU: how much uniformity counts."""

    gamma: float = 1.0
    """Weight of the uniformity; published .2 to 10, .4 to 2 in the runs of MAWU's authors."""

    def __post_init__(self) -> None:
        settle(self)
        require_not_negative(self, "gamma")


class DirectAU(Loss):
    """DirectAU: alignment of the positives, uniformity of users and of items, no negatives.

    `mean ‖u − i‖² + γ·(U(users) + U(items))/2` over the batch's pairs, on the unit sphere.

    Needs `outputs`, `users` and `pos_items`; memory of a step is `O(B²)`.

    Source:
        Wang et al., "Towards Representation Alignment and Uniformity in Collaborative Filtering",
        KDD 2022 (arXiv 2206.12811), eq. 4 to 6.

    Deviations:
        None: `torch.pdist` is replaced by products of unit vectors, which give the same distances.
        A user or item that comes twice in a batch is a pair at distance 0, as in the authors' code.

    Relations:
        γ = 0 is the mean alignment. Turning all vectors together changes nothing.

    >>> loss, U, V = DirectAU(), torch.eye(2), torch.eye(2)
    >>> both = torch.arange(2)  # aligned pairs at right angles: 0 + (−4 − 4)/2
    >>> loss(torch.ones(2), torch.zeros(2, 1), users=both, pos_items=both, outputs=(U, V))
    tensor(-4.)
    """

    config_class: ClassVar[type[DirectAUConfig]] = DirectAUConfig
    config: DirectAUConfig
    uses_negatives = False
    row_sparse = False

    def batch_loss(
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,  # noqa: ARG002
        **context: Any,
    ) -> torch.Tensor:
        """Return the loss of a batch, `[]`."""
        users, items = positive_rows(context)
        spread = uniformity(users) + uniformity(items)
        loss: torch.Tensor = alignment(pos).mean() + self.config.gamma * spread / 2
        return loss
