"""Hyper-parameters of the losses that are nothing but a formula: its keyword arguments.

Frozen, checked when made, the formulas' values as defaults.
"""

import math
from dataclasses import dataclass
from typing import Literal

from contrarec.config import require, require_not_negative, require_positive, settle


@dataclass(frozen=True, kw_only=True)
class BPRConfig:
    """BPR has no hyper-parameters."""


@dataclass(frozen=True, kw_only=True)
class CCLConfig:
    """The cosine contrastive loss of SimpleX."""

    margin: float = 0.4
    """Cosine below which a negative is left alone; published .2 to .9."""
    neg_weight: float = 150.0
    """Weight of the negatives' mean; published 150 to 250, with 800 to 1500 negatives."""

    def __post_init__(self) -> None:
        settle(self)
        require(-1 <= self.margin < 1, "margin", "be a cosine below 1", self.margin)
        require_positive(self, "neg_weight")


@dataclass(frozen=True, kw_only=True)
class MMCLConfig:
    """The multi-margin cosine loss."""

    margins: tuple[float, ...] = (0.2, 0.4, 0.6)
    """Cosines below which a negative is left alone; the published ones are not known."""
    neg_weights: tuple[float, ...] = (50.0, 50.0, 50.0)
    """Weight of each margin's mean; the published ones are not known."""

    def __post_init__(self) -> None:
        settle(self)
        cosines = bool(self.margins) and all(-1 <= margin < 1 for margin in self.margins)
        require(cosines, "margins", "be cosines below 1", self.margins)
        positive = all(0 < weight < math.inf for weight in self.neg_weights)
        require(positive, "neg_weights", "be positive", self.neg_weights)
        n = len(self.margins)
        rule = f"be as many as `margins` ({n})"
        require(len(self.neg_weights) == n, "neg_weights", rule, self.neg_weights)


@dataclass(frozen=True, kw_only=True)
class SimCEConfig:
    """Simplified cross-entropy."""

    margin: float = 5.0
    """Distance to keep from the hardest negative, in the units of a dot product; published 5."""

    def __post_init__(self) -> None:
        settle(self)
        require_positive(self, "margin")


@dataclass(frozen=True, kw_only=True)
class PSLConfig:
    """The pairwise softmax loss."""

    tau: float = 0.1
    """Temperature of half the cosines' differences; published .005 to .25."""
    activation: Literal["tanh", "atan", "relu", "exp"] = "tanh"
    """Link between a difference and its weight; `exp` is the softmax loss at twice the `tau`."""

    def __post_init__(self) -> None:
        settle(self)
        require_positive(self, "tau")


@dataclass(frozen=True, kw_only=True)
class HCLConfig:
    """The contrastive loss with hard negatives."""

    tau: float = 0.5
    """Temperature, the divisor of the scores; published .5."""
    beta: float = 1.0
    """How much harder negatives count; published .5 to 2."""
    tau_plus: float = 0.01
    """Share of positives among the sampled negatives; published .01 to .1."""

    def __post_init__(self) -> None:
        settle(self)
        require_positive(self, "tau")
        require_not_negative(self, "beta")
        require(0 <= self.tau_plus < 1, "tau_plus", "be in [0, 1)", self.tau_plus)
