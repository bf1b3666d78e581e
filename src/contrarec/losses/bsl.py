"""BSL: the softmax loss with a user's positives in the batch pooled."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from contrarec.config import require_positive, settle
from contrarec.errors import ConfigError
from contrarec.losses import functional
from contrarec.losses.base import Loss


@dataclass(frozen=True, kw_only=True)
class BSLConfig:
    """The bilateral softmax loss."""

    tau: float = 0.1
    """Temperature, the divisor of the scores; published .08 to .17 with MF."""
    neg_power: float = 1.1
    """The positives' temperature over the negatives'; published 1.06 to 1.32 with MF."""

    def __post_init__(self) -> None:
        settle(self)
        require_positive(self, "tau", "neg_power")


class BSL(Loss):
    """The bilateral softmax loss; see `functional.bsl`.

    Needs `users`: the rows of one user are pooled, so a row's loss depends on its batch. With the
    default `positives = "interaction"` a batch holds several rows of a user by chance alone.

    >>> loss = BSL(BSLConfig(tau=0.5))
    >>> loss(torch.tensor([0.5, -0.5]), torch.zeros(2, 3), users=torch.tensor([7, 7]))
    tensor(-0.4338)
    """

    config_class: ClassVar[type[BSLConfig]] = BSLConfig
    weighs_negatives = True

    def per_row(
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,
        *,
        users: torch.Tensor | None = None,
        neg_log_weight: torch.Tensor | None = None,
        **_: Any,
    ) -> torch.Tensor:
        """Return the losses `[B]`."""
        if users is None:
            raise ConfigError("`users` must be given with BSL, got None.")
        config = self.config
        return functional.bsl(
            pos,
            neg,
            users=users,
            tau=config.tau,
            neg_power=config.neg_power,
            neg_log_weight=neg_log_weight,
        )
