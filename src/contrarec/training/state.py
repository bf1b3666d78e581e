"""Where a training run stands: everything a resumed run needs beside weights and optimizers."""

from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch

from contrarec.errors import DataError
from contrarec.sampling import Phase


@dataclass
class State:
    """Position in the run, early-stopping counters and running sums of the epoch."""

    epoch: int = 0
    """Epochs finished."""
    part: int = 0
    """Which pass of the epoch's plan is under way; adversarial passes come first."""
    step: int = 0
    """Steps finished in that pass."""
    adversary_passes: int = 0
    """Adversarial passes finished in the epochs finished."""
    best: float = float("-inf")
    """Best value of the monitored metric on the validation set."""
    best_epoch: int = -1
    """Epochs that had been finished when it was reached; -1 before the first evaluation."""
    bad_evaluations: int = 0
    """Evaluations since."""
    stopped: str = ""
    """Why training is over (`patience` or `epochs`), empty while it is not."""
    seconds: float = 0.0
    """Time spent so far."""
    losses: dict[str, float] = field(default_factory=dict)
    """Sum of the batch losses of the epoch so far, by phase."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "State":
        """Undo `to_dict`.

        Raises:
            DataError: the values are not a state's.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise DataError(f"checkpoint: not a training state ({error}).") from error


def epoch_plan(due: bool, adv_epochs: int) -> tuple[Phase, ...]:
    """Return the passes of an epoch: adversarial ones if they are due, then the model's.

    >>> epoch_plan(True, 2), epoch_plan(False, 2)
    (('max', 'max', 'min'), ('min',))
    """
    passes: list[Phase] = ["max"] * (adv_epochs if due else 0)
    return (*passes, "min")


class Gathers(Protocol):
    """Whoever brings the workers' values together, as `Team` does."""

    def gather(self, values: torch.Tensor, /) -> torch.Tensor:
        """Return the workers' values `[n]`, one after the other."""


class KLTrace:
    """Running mean, per user, of the adversary's KL divergence to uniform within one epoch."""

    def __init__(self, n_users: int, device: torch.device) -> None:
        self.sums = torch.zeros(n_users, device=device)
        self.counts = torch.zeros(n_users, device=device)

    def add(self, users: torch.Tensor, kl: torch.Tensor) -> None:
        """Add the rows of a batch: `users [B]`, `kl [B]`."""
        self.sums.index_add_(0, users, kl.to(self.sums))
        self.counts.index_add_(0, users, torch.ones_like(kl, dtype=self.counts.dtype))

    def reset(self) -> None:
        """Forget everything, for the next epoch."""
        self.sums.zero_()
        self.counts.zero_()

    def summary(self, team: Gathers | None = None) -> dict[str, float] | None:
        """Mean and quantiles over the users seen, in nats; None if there were none.

        Args:
            team: workers whose users count, too.
        """
        seen = self.counts > 0
        means = (self.sums[seen] / self.counts[seen]).double().cpu()
        if team:
            means = team.gather(means)
        if not len(means):
            return None
        low, median, high = _quantiles(means, (0.05, 0.5, 0.95))
        return {
            "mean": float(means.mean()),
            "q05": low,
            "median": median,
            "q95": high,
            "max": float(means.max()),
        }


def _quantiles(values: torch.Tensor, q: tuple[float, ...]) -> list[float]:
    ordered = values.sort().values  # torch.quantile refuses more than 2**24 values
    return [float(ordered[round(p * (len(ordered) - 1))]) for p in q]
