"""SimGCL and XSimGCL: noise in the layers instead of other graphs."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from contrarec.config import require, require_not_negative, require_positive, settle
from contrarec.losses import functional
from contrarec.losses.base import Loss, Tables
from contrarec.losses.views import Draws, GraphEncoder, contrast_views, made, signed_noise


@dataclass(frozen=True, kw_only=True)
class SimGCLConfig:
    """SimGCL."""

    view_weight: float = 0.2
    """Weight of the contrast; published .2 to .5, less for small data."""
    view_tau: float = 0.2
    """Temperature of the contrast; .2 in the authors' code."""
    noise: float = 0.1
    """ε, the length of the noise; published .1."""

    def __post_init__(self) -> None:
        settle(self)
        require_not_negative(self, "view_weight", "noise")
        require_positive(self, "view_tau")


@dataclass(frozen=True, kw_only=True)
class XSimGCLConfig:
    """XSimGCL."""

    view_weight: float = 0.2
    """Weight of the contrast; published .2, less for small data."""
    view_tau: float = 0.15
    """Temperature of the contrast; published .1 to .15."""
    noise: float = 0.2
    """ε, the length of the noise; published .1 to .2."""
    view_layer: int = 1
    """l*, the layer that the output is contrasted with; from 0 to the backbone's `n_layers`."""

    def __post_init__(self) -> None:
        settle(self)
        require_not_negative(self, "view_weight", "noise", "view_layer")
        require_positive(self, "view_tau")


class SimGCL(Loss):
    """SimGCL: `BPR + λ·(InfoNCE of the users + InfoNCE of the items)` between two noisy passes.

    A noisy pass adds `ε·sign(x)·n` to every layer behind layer 0, `n` a random unit vector without
    negative entries, before the next layer is made of it. Scores come from a pass without noise.

    Args:
        config: hyper-parameters; the defaults if None.
        rng: seed or generator of the noise; None draws a seed.
        about: what else a loss may be told.

    Source:
        Yu et al., "Are Graph Augmentations Necessary? Simple Graph Contrastive Learning for
        Recommendation", SIGIR 2022 (arXiv 2112.08679), and the authors' code. The name stands for a
        backbone without layer 0 (`ego_weight = 0`), in training and in ranking, as there.

    Deviations:
        None known.

    Relations:
        λ = 0 is BPR on LightGCN. Without noise both views are the output itself.
    """

    config_class: ClassVar[type[SimGCLConfig]] = SimGCLConfig
    similarity = "dot"

    def __init__(self, config: SimGCLConfig | None = None, **about: Any) -> None:
        super().__init__(config, **about)
        self.draws = Draws(about.get("rng"))
        self._views: list[Tables] | None = None

    def propagate(self, encoder: GraphEncoder) -> Tables:  # type: ignore[override]
        """Return the backbone's output, and keep two noisy versions of it."""
        self.draws.advance()
        generator = self.draws.generator()
        layers = [_noisy_layers(encoder, self.config.noise, generator) for _ in range(2)]
        self._views = [encoder.mean(view) for view in layers]
        return encoder()

    def batch_loss(self, pos: torch.Tensor, neg: torch.Tensor, **context: Any) -> torch.Tensor:
        """Return BPR plus the weighted contrast of the batch's users and items in both views."""
        views = contrast_views(made(self._views, self), tau=self.config.view_tau, **context)
        ranking = functional.bpr(pos, neg).mean()
        return torch.add(ranking, views, alpha=self.config.view_weight)


class XSimGCL(Loss):
    """XSimGCL: one noisy pass gives the scores, and is contrasted with a layer of its own.

    `BPR + λ·(InfoNCE of the users + InfoNCE of the items)` between the noisy output and its layer
    l*. Ranking is without noise.

    Args:
        config: hyper-parameters; the defaults if None.
        rng: seed or generator of the noise; None draws a seed.
        about: what else a loss may be told.

    Source:
        Yu et al., "XSimGCL: Towards Extremely Simple Graph Contrastive Learning for
        Recommendation", TKDE 2023 (arXiv 2209.02544), and the authors' code; without layer 0,
        as there.

    Deviations:
        None known.

    Relations:
        λ = 0 and ε = 0 is BPR on LightGCN. With l* the only layer, both views are the same.
    """

    config_class: ClassVar[type[XSimGCLConfig]] = XSimGCLConfig
    similarity = "dot"

    def __init__(self, config: XSimGCLConfig | None = None, **about: Any) -> None:
        super().__init__(config, **about)
        self.draws = Draws(about.get("rng"))
        self._views: list[Tables] | None = None

    def propagate(self, encoder: GraphEncoder) -> Tables:  # type: ignore[override]
        """Return the noisy output, and keep it and its layer l*.

        Raises:
            ConfigError: the backbone has no layer l*.
        """
        layer, n_layers = self.config.view_layer, encoder.n_layers
        rule = f"be at most the backbone's `n_layers` = {n_layers}"
        require(layer <= n_layers, "view_layer", rule, layer)
        self.draws.advance()
        layers = _noisy_layers(encoder, self.config.noise, self.draws.generator())
        output = encoder.mean(layers)
        self._views = [output, layers[layer]]
        return output

    def batch_loss(self, pos: torch.Tensor, neg: torch.Tensor, **context: Any) -> torch.Tensor:
        """Return BPR plus the weighted contrast of the batch's users and items in both views."""
        views = contrast_views(made(self._views, self), tau=self.config.view_tau, **context)
        ranking = functional.bpr(pos, neg).mean()
        return torch.add(ranking, views, alpha=self.config.view_weight)


def _noisy_layers(encoder: GraphEncoder, eps: float, generator: torch.Generator) -> list[Tables]:
    return encoder.layers(perturb=lambda x: signed_noise(x, eps, generator))
