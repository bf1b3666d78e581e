"""PID: item vectors from which a probe cannot tell how popular the item is."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from contrarec.config import require, settle
from contrarec.losses.base import Encoder, Loss, Tables, generator_of, take
from contrarec.losses.functional import bpr
from contrarec.losses.ips import known_counts


@dataclass(frozen=True, kw_only=True)
class PIDConfig:
    """PID: how much ranking counts against hiding popularity."""

    alpha: float = 0.8
    """Weight of BPR, the rest is the probe's; .8 in the AdvInfoNCE code ("alpha_pid")."""

    def __post_init__(self) -> None:
        settle(self)
        require(0 <= self.alpha <= 1, "alpha", "be between 0 and 1", self.alpha)


class PID(Loss):
    """PID: item vectors from which a probe cannot tell how popular the item is.

    `α·mean BPR + (1 − α)·(E⁺ + E⁻)`: the probe `sigmoid(⟨w, v_i⟩ + b)` guesses an item's
    popularity, E is the mean squared error of its guesses over the batch's positives or negatives.
    The probe moves against the error, the vectors move with it (a reversed gradient). While
    training, popularity itself is one more coordinate of the items, with a learned one for each
    user, so that it need not be in the vectors; recommending leaves that coordinate out.

    Needs `item_counts`, `n_users`, `dim` and, in a call, `outputs`, `pos_items` and `neg_items`.

    Raises:
        ConfigError: `item_counts` is missing or has another length than `n_items`.

    Source:
        The baseline of that name in the authors' code of AdvInfoNCE (arXiv 2310.18700).
        Unconfirmed: which paper it goes back to.

    Deviations:
        Their probe is linear without the sigmoid, so that the vectors lower the loss without end by
        growing; it has an Adam that is made anew, without its moments, at every step, while here it
        moves along with the model. Their popularity coordinate takes the place of the last of
        `dim`; here it is a further one. Under a graph that coordinate is not averaged. Popularity
        is the rank of an item's count among the distinct counts, over the largest, as in theirs.

    Relations:
        α = 1 with the users' coordinates at 0 is BPR.
    """

    config_class: ClassVar[type[PIDConfig]] = PIDConfig
    config: PIDConfig
    similarity = "dot"
    row_sparse = False
    popularity: torch.Tensor

    def __init__(
        self,
        config: PIDConfig | None = None,
        *,
        n_users: int,
        dim: int,
        item_counts: Any = None,
        n_items: int | None = None,
        **about: Any,
    ) -> None:
        super().__init__(
            config, n_users=n_users, dim=dim, item_counts=item_counts, n_items=n_items, **about
        )
        ranks = np.unique(known_counts(item_counts, n_items), return_inverse=True)[1]
        shares = torch.from_numpy(ranks / max(ranks.max(initial=1), 1)).float()
        self.register_buffer("popularity", shares)
        self.taste = nn.Parameter(torch.zeros(n_users))
        self.probe = nn.Parameter(torch.empty(dim))
        self.bias = nn.Parameter(torch.zeros(()))
        bound = 1 / math.sqrt(dim)
        nn.init.uniform_(self.probe, -bound, bound, generator=generator_of(about.get("rng")))

    def learned(self) -> Iterable[nn.Parameter]:
        """Return the users' taste for popularity, and the probe."""
        return self.taste, self.probe, self.bias

    def propagate(self, encoder: Encoder) -> Tables:
        """Return the model's tables with popularity as one more coordinate."""
        users, items = encoder()
        return (
            torch.cat([users, self.taste[:, None]], 1),
            torch.cat([items, self.popularity[:, None]], 1),
        )

    def batch_loss(
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,
        **context: Any,
    ) -> torch.Tensor:
        """Return the loss of a batch, `[]`."""
        outputs, pos_items, neg_items = take(context, "outputs", "pos_items", "neg_items")
        vectors = outputs[1][:, : len(self.probe)]
        reversed_ = 2 * vectors.detach() - vectors  # the same values, the gradient times −1
        guess = torch.sigmoid(reversed_ @ self.probe + self.bias)  # [n_items]
        error = (guess - self.popularity).square()
        hidden = error[pos_items].mean() + error[neg_items].mean()
        loss: torch.Tensor = (
            self.config.alpha * bpr(pos, neg).mean() + (1 - self.config.alpha) * hidden
        )
        return loss
