"""MACR: clicks explained by match, item and user; what the item alone explains is taken out."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from contrarec.config import require, require_not_negative, settle
from contrarec.losses.base import Loss, Tables, generator_of, take
from contrarec.losses.functional import macr


@dataclass(frozen=True, kw_only=True)
class MACRConfig:
    """MACR: weights of the parts, and the reference score of recommending."""

    alpha: float = 1e-3
    """Weight of what the item alone explains; published 1e-3."""
    beta: float = 1e-3
    """Weight of what the user alone explains; published 1e-3."""
    c: float = 30.0
    """Score of a user and an item that know nothing of each other; published 20 to 45. The larger,
    the more rare items are favoured; it belongs to the scale of the scores."""

    def __post_init__(self) -> None:
        settle(self)
        require_not_negative(self, "alpha", "beta")
        require(abs(self.c) < float("inf"), "c", "be finite", self.c)


class MACR(Loss):
    """MACR: clicks explained by match, item and user; what the item alone explains is taken out.

    Trains `functional.macr` with the heads `u = ⟨h_user, vector of the user⟩` and
    `i = ⟨h_item, vector of the item⟩`, recommends by `(s − c)·sigmoid(i)·sigmoid(u)`: as
    `sigmoid(u)` orders nothing for a user, by the dot products of `[user, 1]` and
    `sigmoid(i)·[item, −c]`.

    Needs `dim` and, in a call, `outputs`, `users`, `pos_items` and `neg_items`.

    Source:
        Wei et al., "Model-Agnostic Counterfactual Reasoning for Eliminating Popularity Bias in
        Recommender System", KDD 2021 (arXiv 2010.15363).

    Deviations:
        Those of `functional.macr`; scores leave out the factor of the user. A user folded in has a
        shorter vector than a trained one, so that c weighs more for it.

    Relations:
        Heads of 0 rank as the scores do, whatever c is.

    >>> loss = MACR(MACRConfig(c=2.0), dim=1, rng=0)
    >>> _ = nn.init.zeros_(loss.item_head)
    >>> users, items = loss.final_vectors(torch.tensor([[3.0]]), torch.tensor([[1.0], [2.0]]))
    >>> users @ items.T  # (3 − 2)/2 and (6 − 2)/2
    tensor([[0.5000, 2.0000]], grad_fn=<MmBackward0>)
    """

    config_class: ClassVar[type[MACRConfig]] = MACRConfig
    similarity = "dot"
    row_sparse = False

    def __init__(self, config: MACRConfig | None = None, *, dim: int, **about: Any) -> None:
        super().__init__(config, dim=dim, **about)
        generator = generator_of(about.get("rng"))
        self.user_head = nn.Parameter(torch.empty(dim))
        self.item_head = nn.Parameter(torch.empty(dim))
        for head in self.learned():
            nn.init.xavier_normal_(head.data[None], generator=generator)

    def learned(self) -> Iterable[nn.Parameter]:
        """Return the heads of user and item."""
        return self.user_head, self.item_head

    def per_row(
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,
        **context: Any,
    ) -> torch.Tensor:
        """Return the losses `[B]`."""
        outputs, users = take(context, "outputs", "users")
        pos_items, neg_items = take(context, "pos_items", "neg_items")
        item_logits = outputs[1] @ self.item_head  # [n_items]
        return macr(
            pos,
            neg,
            outputs[0][users] @ self.user_head,
            item_logits[pos_items],
            item_logits[neg_items],
            alpha=self.config.alpha,
            beta=self.config.beta,
        )

    def final_vectors(self, users: torch.Tensor, items: torch.Tensor) -> Tables:
        """Return the vectors whose dot products rank, `dim + 1` long."""
        reference = items.new_full((len(items), 1), -self.config.c)
        weights = torch.sigmoid(items @ self.item_head)[:, None]
        return (
            torch.cat([users, users.new_ones(len(users), 1)], 1),
            weights * torch.cat([items, reference], 1),
        )
