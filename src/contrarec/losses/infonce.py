"""InfoNCE, alone or with fixed weights of the negatives: the control rows of AdvInfoNCE."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from contrarec.config import require, require_positive, settle
from contrarec.errors import ConfigError
from contrarec.losses import functional
from contrarec.losses.adversary import PopularityHardness, RandomHardness, weigh
from contrarec.losses.base import Loss, add_log_weights, generator_of, left_out, log_number


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
        require_positive(self, "tau", "k_neg", "scale", "eta")
        require(math.isfinite(self.alpha), "alpha", "be finite", self.alpha)


class InfoNCE(Loss):
    """InfoNCE, alone or with fixed weights of the negatives: the control rows of AdvInfoNCE.

    Needs `item_counts` for popularity weights, and `users` and `neg_items` for any weights other
    than uniform.

    Raises:
        ConfigError: popularity weights without `item_counts`, or these of another length.

    >>> loss = InfoNCE(InfoNCEConfig(tau=0.1))
    >>> loss(torch.tensor([1.0]), torch.tensor([[1.0]]))
    tensor(0.6931)
    """

    config_class: ClassVar[type[InfoNCEConfig]] = InfoNCEConfig
    weighs_negatives = True

    def __init__(self, config: InfoNCEConfig | None = None, **about: Any) -> None:
        super().__init__(config, **about)
        config = self.config
        self.hardness: nn.Module | None = None
        if config.weights == "random":
            generator = generator_of(about.get("rng"))
            self.hardness = RandomHardness(config.scale, eta=config.eta, generator=generator)
        elif config.weights == "popularity":
            counts, n_items = about.get("item_counts"), about.get("n_items")
            if counts is None:
                raise ConfigError("`item_counts` must be given with popularity weights, got None.")
            counts = torch.as_tensor(counts)
            if n_items is not None and counts.shape != (n_items,):
                raise ConfigError(
                    f"`item_counts` must be [n_items] = [{n_items}], got {tuple(counts.shape)}."
                )
            self.hardness = PopularityHardness(counts, config.alpha, eta=config.eta)

    def log_p(
        self, neg: torch.Tensor, *, neg_log_weight: torch.Tensor | None = None, **context: Any
    ) -> torch.Tensor | None:
        """Return `log p [B, N]` over the negatives that are left in, or None for uniform p."""
        if self.hardness is None:
            return None
        return weigh(self.hardness, out=left_out(neg, neg_log_weight), **context)

    def neg_log_weight(
        self, neg: torch.Tensor, *, neg_log_weight: torch.Tensor | None = None, **context: Any
    ) -> torch.Tensor | None:
        """Return `log(k_neg·N·p)` plus the weights given, or None where every negative weighs 1.

        N counts the negatives that are left in, so that uniform p is no weight.
        """
        weight, k_neg = self.log_p(neg, neg_log_weight=neg_log_weight, **context), self.config.k_neg
        if weight is not None:
            weight = weight + (math.log(k_neg) + log_number(neg, left_out(neg, neg_log_weight)))
        elif k_neg != 1:
            weight = neg.new_tensor(math.log(k_neg))
        return add_log_weights(weight, neg_log_weight)

    def per_row(
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,
        **context: Any,
    ) -> torch.Tensor:
        """Return the losses `[B]`."""
        return functional.infonce(
            pos,
            neg,
            tau=self.config.tau,
            neg_log_weight=self.neg_log_weight(neg, **context),
            include_positive=self.config.include_positive,
        )
