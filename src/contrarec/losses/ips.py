"""IPS: BPR in which rare positives count for more."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from contrarec.errors import ConfigError
from contrarec.losses.base import Loss, take
from contrarec.losses.functional import bpr


@dataclass(frozen=True, kw_only=True)
class IPSConfig:
    """IPS has no hyper-parameters."""


class IPS(Loss):
    """IPS: BPR in which rare positives count for more.

    `w_i·BPR`, `w_i = min(1/n_i, m) / m`, where n_i is the item's number of interactions, at least
    1, and m the median of all 1/n: half of the items have weight 1, the popular ones less.

    Needs `item_counts` and, in a call, `pos_items`.

    Raises:
        ConfigError: `item_counts` is missing or has another length than `n_items`.

    Source:
        Inverse propensity scores of popularity, clipped and normalised ("IPS-CN": Gruson et al.,
        WSDM 2019), as ported by the authors of BC loss and AdvInfoNCE.

    Deviations:
        None from the ports, whose other normalisation, by the largest propensity, cancels.

    Relations:
        Equal popularity of all items is BPR.

    >>> loss = IPS(item_counts=[8, 2, 1])  # 1/8, 1/2 and 1, clipped at 1/2
    >>> loss.weights
    tensor([0.2500, 1.0000, 1.0000])
    """

    config_class: ClassVar[type[IPSConfig]] = IPSConfig
    similarity = "dot"
    weights: torch.Tensor

    def __init__(
        self,
        config: IPSConfig | None = None,
        *,
        item_counts: Any = None,
        n_items: int | None = None,
        **about: Any,
    ) -> None:
        super().__init__(config, item_counts=item_counts, n_items=n_items, **about)
        inverse = 1 / np.maximum(known_counts(item_counts, n_items), 1)
        weights = np.minimum(inverse, np.median(inverse))
        self.register_buffer("weights", torch.from_numpy(weights / weights.max()).float())

    def per_row(self, pos: torch.Tensor, neg: torch.Tensor, **context: Any) -> torch.Tensor:
        """Return the losses `[B]`."""
        (pos_items,) = take(context, "pos_items")
        return self.weights[pos_items] * bpr(pos, neg)


def known_counts(item_counts: Any, n_items: int | None) -> np.ndarray:
    """Return the interactions per item `[n_items]`, which a loss of popularity cannot do without.

    Raises:
        ConfigError: they are missing or of another length.
    """
    if item_counts is None:
        raise ConfigError("`item_counts` must be given with this loss, got None.")
    counts = np.asarray(item_counts)
    if n_items is not None and counts.shape != (n_items,):
        raise ConfigError(f"`item_counts` must be [n_items] = [{n_items}], got {counts.shape}.")
    return counts
