"""Adap-τ: the temperature follows the spread of the cosines, and each user's loss."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from contrarec.config import require_not_negative, require_positive, settle
from contrarec.losses import functional
from contrarec.losses.base import History, Loss, Tables, generator_of, take
from contrarec.losses.histories import Histories


@dataclass(frozen=True, kw_only=True)
class AdapTauConfig:
    """Adap-τ, which sets its temperature by itself after a warm-up."""

    tau: float = 0.1
    """Temperature of the warm-up, and of epochs for which the formula has none."""
    warm_up_epochs: int = 100
    """Epochs at the fixed `tau`."""
    beta: float = 1.0
    """How much a user's loss must differ from the mean to matter; published .25 to 1.5."""

    def __post_init__(self) -> None:
        settle(self)
        require_positive(self, "tau", "beta")
        require_not_negative(self, "warm_up_epochs")


class AdapTau(Loss):
    """Adap-τ: softmax loss with a common temperature for positives, each user's for negatives.

    Before every epoch after the warm-up, the common scale (inverse temperature) is set from the
    mean cosine of the interactions and that of all pairs (`functional.common_scale`), and each
    user's from its mean loss at τ = 1 in the epoch before (`functional.user_scales`).

    Args:
        config: hyper-parameters; the defaults if None.
        n_users: number of users.
        n_items: size of the catalogue.
        history: the training interactions.

    Raises:
        ConfigError: `history` or `n_items` is missing.

    Source:
        Chen et al., "Adap-τ: Adaptively Modulating Embedding Magnitude for Recommendation",
        WWW 2023.

    Deviations:
        The means run over all users with interactions (the authors' code leaves out the fifth with
        the fewest). A user without a row in the last epoch counts as one with the mean loss.

    Relations:
        During the warm-up it is InfoNCE without the positive. Where all users have the same loss,
        it is that at the common temperature.
    """

    config_class: ClassVar[type[AdapTauConfig]] = AdapTauConfig
    weighs_negatives = True
    pos_scale: torch.Tensor
    user_scale: torch.Tensor
    loss_sums: torch.Tensor
    loss_counts: torch.Tensor

    def __init__(
        self,
        config: AdapTauConfig | None = None,
        *,
        history: History | None = None,
        n_items: int | None = None,
        **about: Any,
    ) -> None:
        super().__init__(config, history=history, n_items=n_items, **about)
        self.histories = Histories(history, n_items, generator_of(about.get("rng")))
        n_users = len(self.histories.counts)
        self.register_buffer("pos_scale", torch.tensor(1 / self.config.tau))
        self.register_buffer("user_scale", torch.full((n_users,), 1 / self.config.tau))
        self.register_buffer("loss_sums", torch.zeros(n_users))
        self.register_buffer("loss_counts", torch.zeros(n_users))

    def begin_epoch(self, epoch: int, outputs: Tables) -> None:
        """Set the scales from the vectors and from the losses of the last epoch, and forget these.

        The first epoch after a warm-up of 0 epochs has no losses before it: every user has the
        common scale.
        """
        if epoch >= self.config.warm_up_epochs:
            scale = self._common_scale(outputs) or 1 / self.config.tau
            seen = self.loss_counts > 0
            self.pos_scale.fill_(scale)
            self.user_scale.fill_(scale)
            if seen.any():
                losses = self.loss_sums[seen] / self.loss_counts[seen]
                beta = self.config.beta
                self.user_scale[seen] = functional.user_scales(losses, common=scale, beta=beta)
        self.loss_sums.zero_()
        self.loss_counts.zero_()

    def _common_scale(self, outputs: Tables) -> float | None:
        histories = self.histories
        active = histories.counts > 0
        units = F.normalize(outputs[0][active]), F.normalize(outputs[1])
        # the mean over all pairs is the product of the means
        mean = torch.dot(units[0].mean(0), units[1].mean(0))
        return functional.common_scale(
            histories.scores(outputs, cosine=True).mean().item(),
            mean.item(),
            pairs=len(units[0]) * histories.n_items,
            interactions=len(histories.items),
        )

    def per_row(
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,
        *,
        neg_log_weight: torch.Tensor | None = None,
        **context: Any,
    ) -> torch.Tensor:
        """Return the losses `[B]`."""
        (users,) = take(context, "users")
        plain = functional.infonce(pos.detach(), neg.detach(), tau=1.0, include_positive=False)
        self._rows = users, plain
        return functional.adap_tau(
            pos,
            neg,
            pos_scale=self.pos_scale,
            neg_scale=self.user_scale[users],
            neg_log_weight=neg_log_weight,
        )

    def after_backward(self) -> None:
        """Note the rows' losses at τ = 1, each with its user."""
        users, losses = self._rows
        self.loss_sums.index_add_(0, users, losses.float())
        self.loss_counts.index_add_(0, users, torch.ones_like(losses, dtype=torch.float32))
