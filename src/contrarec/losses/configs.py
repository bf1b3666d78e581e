"""Hyper-parameters of the losses: frozen, checked when made, the formulas' values as defaults."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from contrarec.config import OptimizerName, require, settle


@dataclass(frozen=True, kw_only=True)
class BPRConfig:
    """BPR has no hyper-parameters."""


@dataclass(frozen=True, kw_only=True)
class InfoNCEConfig:
    """InfoNCE and its control rows with fixed weights."""

    tau: float = 0.1
    """Temperature, the divisor of the scores."""
    k_neg: float = 1.0
    """Factor of the negatives' sum; AdvInfoNCE's code uses 64."""
    include_positive: bool = True
    """Whether the positive stands in the denominator; False is the SL variant."""
    weights: Literal["uniform", "random", "popularity"] = "uniform"
    """p over the sampled negatives: uniform, fixed at random per pair, or ∝ count^alpha."""
    scale: float = 1.0
    """Standard deviation of the logits of random p."""
    alpha: float = 1.0
    """Exponent of popularity p."""
    eta: float | None = None
    """KL to uniform that random or popularity p is tempered to, in nats; None leaves it as is."""

    def __post_init__(self) -> None:
        settle(self)
        _positive(self, "tau", "k_neg", "scale", "eta")
        require(math.isfinite(self.alpha), "alpha", "be finite", self.alpha)


@dataclass(frozen=True, kw_only=True)
class AdvInfoNCEConfig:
    """AdvInfoNCE: the loss, its adversary, and when the adversary moves."""

    tau: float = 0.1
    """Temperature, the divisor of the scores; published .09 to 2."""
    k_neg: float = 1.0
    """Factor of the negatives' sum: 1 is the formula, 64 the published code."""
    hardness: Literal["embedding", "mlp", "closed_form"] = "embedding"
    """Who sets p: tables of its own, MLPs on the model's tables, or the maximiser itself."""
    adv_dim: int = 64
    """Dimension of the adversary's tables."""
    mlp_dim: int = 4
    """Output dimension of the MLPs."""
    direction: Literal["max", "min"] = "max"
    """Which way the adversary moves the loss; the authors' code descended before 2023-05-17."""
    adv_lr: float = 1e-4
    """Adam's step size for the adversary; published 5e-5 to 1e-2."""
    adv_optimizer: OptimizerName = "auto"
    """`adam`, `lazy_adam` (only the rows that a batch touched move), or `auto`: lazy from
    200,000 rows on. MLPs have no rows."""
    adv_epochs: int = 1
    """Passes over the data each time the adversary is due."""
    adv_interval: int = 5
    """Epochs from one turn of the adversary to the next."""
    adv_passes: int = 12
    """T_adv: no adversarial pass begins after this many; not in force with `eta`."""
    warm_up_epochs: int = 0
    """The adversary rests up to and including this epoch (epochs count from 0)."""
    adv_l2: float = 1e-5
    """L2 of the adversary; in the published code it has no effect."""
    eta: float | None = None
    """KL budget per row in nats, enforced; None leaves the KL to `adv_passes` and `adv_lr`."""
    lam: float = 1.0
    """Penalty of the closed form; not in force with `eta`."""

    def __post_init__(self) -> None:
        settle(self)
        _positive(self, "tau", "k_neg", "eta", "lam")
        _positive(self, "adv_dim", "mlp_dim", "adv_lr", "adv_epochs", "adv_interval")
        _not_negative(self, "adv_passes", "warm_up_epochs", "adv_l2")
        maximises = self.hardness != "closed_form" or self.direction == "max"
        require(maximises, "direction", "be 'max' with the closed form", self.direction)


def _positive(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        require(value is None or 0 < value < math.inf, name, "be positive", value)


def _not_negative(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        require(0 <= value < math.inf, name, "not be negative", value)
