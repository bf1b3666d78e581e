"""What every formula asks of its arguments."""

import torch

from contrarec.errors import ConfigError


def check_tau(tau: float, name: str = "tau") -> None:
    """Raise unless a temperature is positive.

    Raises:
        ConfigError: it is not.
    """
    if not tau > 0:
        raise ConfigError(f"`{name}` must be positive, got {tau}.")


def check_scores(pos: torch.Tensor, neg: torch.Tensor) -> None:
    """Raise unless scores are `pos [B]` and `neg [B, N]`.

    Raises:
        ConfigError: they are not: `[B, 1]` positives would broadcast to `[B, B]` in silence.
    """
    if pos.ndim != 1 or neg.ndim != 2 or pos.shape[0] != neg.shape[0]:
        raise ConfigError(
            "`pos` must be [B] and `neg` [B, N] with the same B, got "
            f"{tuple(pos.shape)} and {tuple(neg.shape)}."
        )


def check_rows(name: str, values: torch.Tensor, pos: torch.Tensor) -> None:
    """Raise unless values are `[B]` like the positives' scores.

    Raises:
        ConfigError: they are not.
    """
    if values.shape != pos.shape:
        raise ConfigError(
            f"`{name}` must be [B] like `pos`, got {tuple(values.shape)} and {tuple(pos.shape)}."
        )
