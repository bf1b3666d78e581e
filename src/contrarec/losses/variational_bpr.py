"""Variational BPR: each row gets further positives of its user, and weights for all of them."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from contrarec.config import require_positive, settle
from contrarec.kernels.scores import sampled_scores
from contrarec.losses import functional
from contrarec.losses.base import History, Loss, generator_of, take
from contrarec.losses.histories import Histories


@dataclass(frozen=True, kw_only=True)
class VariationalBPRConfig:
    """Variational BPR: how many positives, and how sharply they and the negatives are weighted."""

    n_pos: int = 2
    """Positives a row: its own and others of the user's history."""
    c_pos: float = 4.0
    """How far the positives' weights are from a choice of the best; published 4 to 8."""
    c_neg: float = 4.0
    """How far the negatives' weights are from a choice of the least; published 4 to 8."""

    def __post_init__(self) -> None:
        settle(self)
        require_positive(self, "n_pos", "c_pos", "c_neg")


class VariationalBPR(Loss):
    """Variational BPR: pairs of several positives and negatives, weighted by how likely each is.

    The further positives are drawn from the user's history, uniformly and with replacement.

    Args:
        config: hyper-parameters; the defaults if None.
        n_items: size of the catalogue.
        history: the training interactions.
        rng: seed or generator that draws the key of the draws.

    Raises:
        ConfigError: `history` or `n_items` is missing, or (on a call) `outputs`.

    Source:
        Liu et al., "Variational Bayesian Personalized Ranking" (arXiv 2503.11067).

    Deviations:
        Uniform priors (see `functional.variational_bpr`).

    Relations:
        One positive and c⁻ → ∞: BPR.
    """

    config_class: ClassVar[type[VariationalBPRConfig]] = VariationalBPRConfig
    similarity = "dot"
    row_sparse = False
    step: torch.Tensor

    def __init__(
        self,
        config: VariationalBPRConfig | None = None,
        *,
        history: History | None = None,
        n_items: int | None = None,
        **about: Any,
    ) -> None:
        super().__init__(config, history=history, n_items=n_items, **about)
        self.histories = Histories(history, n_items, generator_of(about.get("rng")))
        self.register_buffer("step", torch.tensor(0))

    def per_row(self, pos: torch.Tensor, neg: torch.Tensor, **context: Any) -> torch.Tensor:
        """Return the losses `[B]`."""
        users, (user_vectors, item_vectors) = take(context, "users", "outputs")
        items = self.histories.positives(users, self.config.n_pos - 1, self.step)
        more = sampled_scores(user_vectors, item_vectors, users, items)  # [B, M - 1]
        positives = torch.cat([pos[:, None], more], 1)
        return functional.variational_bpr(
            positives, neg, c_pos=self.config.c_pos, c_neg=self.config.c_neg
        )

    def after_backward(self) -> None:
        """Count the step, so that the next one draws other positives."""
        self.step += 1
