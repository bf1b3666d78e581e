"""LLPAUC: a min-max game between the model and seven numbers."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn

from contrarec.config import require_positive, settle
from contrarec.losses import functional
from contrarec.losses.base import Loss


class _Player(NamedTuple):
    start: float
    low: float
    high: float
    rate: float
    """Of the step size; negative for one that ascends."""


_PLAYERS = {
    "a": _Player(1.0, 0.0, 1.0, 1.0),
    "b": _Player(0.0, 0.0, 1.0, 1.0),
    "g": _Player(0.0, -1.0, 1.0, -2.0),
    "s_pos": _Player(0.5, -1.0, 4.0, -2.0),
    "s_neg": _Player(0.5, 0.0, 5.0, 2.0),
    "theta_a": _Player(0.5, 0.0, 1e9, 1.0),
    "theta_b": _Player(0.5, 0.0, 1e9, 1.0),
}


@dataclass(frozen=True, kw_only=True)
class LLPAUCConfig:
    """LLPAUC: which part of the curve, and how fast the game's own numbers move."""

    alpha: float = 0.9
    """Share of the positives that count, the best first; published .7 to 1.1."""
    beta: float = 0.1
    """Share of the negatives that count, the best first; published .01 to .1."""
    game_lr: float = 1e-3
    """Step size of the numbers' own descent and ascent."""

    def __post_init__(self) -> None:
        settle(self)
        require_positive(self, "alpha", "beta", "game_lr")


class LLPAUC(Loss):
    """LLPAUC: the area of the ROC curve's lower left, as a min–max over single instances.

    After each batch a, b, s⁻, θ_a and θ_b descend its objective, g and s⁺ ascend it, all at once
    and from the same scores as the model, and each is clipped to its range.

    Args:
        config: hyper-parameters; the defaults if None.

    Source:
        Shi et al., "Lower-Left Partial AUC: An Effective and Efficient Optimization Metric for
        Recommendation", WWW 2024. Starts, ranges and relative rates are those of its port in the
        code of DrRL (AAAI 2025).

    Deviations:
        The numbers move by plain gradient steps, not by Adam, and are not under L2.

    Relations:
        A step of the ascending numbers raises the objective of its batch, one of the descending
        ones lowers it; neither moves the model.

    >>> loss = LLPAUC()
    >>> loss(torch.tensor([1.0]), torch.tensor([[0.0]])).backward()
    >>> loss.after_backward()
    >>> bool(loss.game["theta_a"] < 0.5), loss.game["a"].grad
    (True, None)
    """

    config_class: ClassVar[type[LLPAUCConfig]] = LLPAUCConfig
    similarity = "dot"

    def __init__(self, config: LLPAUCConfig | None = None, **about: Any) -> None:
        super().__init__(config, **about)
        self.game = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(player.start)) for name, player in _PLAYERS.items()}
        )

    def per_row(self, pos: torch.Tensor, neg: torch.Tensor, **_: Any) -> torch.Tensor:
        """Return `[B]` values whose mean is the objective."""
        config = self.config
        return functional.llpauc(pos, neg, alpha=config.alpha, beta=config.beta, **self.game)

    @torch.no_grad()
    def after_backward(self) -> None:
        """Move the numbers, each its own way, and clip them."""
        for name, number in self.game.items():
            player, grad = _PLAYERS[name], number.grad
            if grad is not None:
                number.sub_(grad, alpha=player.rate * self.config.game_lr)
                number.clamp_(player.low, player.high)
                number.grad = None
