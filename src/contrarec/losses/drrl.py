"""DrRL: hinge losses whose margins, one for each user, find the worst case of the negatives."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from contrarec.config import require, require_positive, settle
from contrarec.errors import ConfigError
from contrarec.losses import functional
from contrarec.losses.base import Loss, take


@dataclass(frozen=True, kw_only=True)
class DrRLConfig:
    """DrRL: the loss, and how the margins move."""

    omega: float = 150.0
    """Order w of the Rényi divergence, more than 1."""
    neg_weight: float = 4.0
    """Factor c of the negatives' hinges: a margin rests where 1/c of them are above it."""
    eps: float = 0.1
    """Keeps the power differentiable where no negative is above the margin."""
    margin: float = 0.7
    """Margin of every user at first."""
    margin_lr: float = 0.01
    """Step size of the margins' gradient descent."""

    def __post_init__(self) -> None:
        settle(self)
        require(self.omega > 1, "omega", "be more than 1", self.omega)
        require_positive(self, "omega", "neg_weight", "eps", "margin_lr")
        require(-1 <= self.margin <= 1, "margin", "be a cosine", self.margin)


class DrRL(Loss):
    """DrRL: hinge losses with a margin for each user, which descends by itself.

    Args:
        config: hyper-parameters; the defaults if None.
        n_users: number of users, each with a margin.

    Raises:
        ConfigError: `n_users` is missing.

    Source:
        Zhang et al., AAAI 2025 (arXiv 2506.15120).

    Deviations:
        The margins move together with the model, not before it on each batch.

    Relations:
        A step of the margins lowers the loss of its batch and leaves the model bit-equal.

    >>> loss = DrRL(DrRLConfig(margin_lr=0.1), n_users=3)
    >>> loss(torch.tensor([1.0]), torch.tensor([[0.1, 0.2]]), users=torch.tensor([2])).backward()
    >>> loss.after_backward()
    >>> loss.margins  # no negative is above it: down at the full rate
    tensor([0.7000, 0.7000, 0.6000])
    """

    config_class: ClassVar[type[DrRLConfig]] = DrRLConfig
    margins: torch.Tensor

    def __init__(
        self, config: DrRLConfig | None = None, *, n_users: int | None = None, **about: Any
    ) -> None:
        super().__init__(config, n_users=n_users, **about)
        if n_users is None:
            raise ConfigError("`n_users` must be given, got None.")
        self.register_buffer("margins", torch.full((n_users,), self.config.margin))

    def per_row(self, pos: torch.Tensor, neg: torch.Tensor, **context: Any) -> torch.Tensor:
        """Return the losses `[B]`."""
        (users,), config = take(context, "users"), self.config
        margin = self.margins[users].requires_grad_()  # a copy, so that only B of them have grads
        self._rows = users, margin
        return functional.drrl(
            pos,
            neg,
            margin=margin.to(pos.dtype),
            omega=config.omega,
            neg_weight=config.neg_weight,
            eps=config.eps,
        )

    def after_backward(self) -> None:
        """Move the margins of the batch's users down the sum of their rows' losses."""
        users, margin = self._rows
        if margin.grad is not None:
            rate = self.config.margin_lr * len(users)  # the batch's loss is a mean over rows
            self.margins.index_add_(0, users, margin.grad, alpha=-rate)
