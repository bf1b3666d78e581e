"""AU+: alignment and uniformity, and two noisy passes that must agree."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from contrarec.config import require_not_negative, require_positive, settle
from contrarec.losses import functional
from contrarec.losses.base import Loss, Tables
from contrarec.losses.views import Draws, GraphEncoder, contrast_views, made, signed_noise


@dataclass(frozen=True, kw_only=True)
class AUPlusConfig:
    """AU+."""

    gamma: float = 1.0
    """γ, weight of the uniformity of users and items; 1 in the authors' code."""
    view_weight: float = 0.5
    """Weight of the contrast; .5 in the authors' code."""
    view_tau: float = 0.2
    """Temperature of the contrast; .2 in the authors' code."""
    noise: float = 0.2
    """ε, the length of the noise in layer 0; .2 in the authors' code."""

    def __post_init__(self) -> None:
        settle(self)
        require_not_negative(self, "gamma", "view_weight", "noise")
        require_positive(self, "view_tau")


class AUPlus(Loss):
    """AU+: DirectAU plus the contrast of two passes from a noisy layer 0.

    `mean ‖u − i‖² + γ·(U(users) + U(items))/2 + λ·(InfoNCE of the users + InfoNCE of the items)`
    with unit vectors of the batch and `U(x) = log mean_{pairs} e^{−2‖x − x'‖²}`. No negatives are
    drawn. Noise is `ε·sign(e)·n`, `n` a random unit vector without negative entries.

    Args:
        config: hyper-parameters; the defaults if None.
        rng: seed or generator of the noise; None draws a seed.
        about: what else a loss may be told.

    Source:
        DirectAU: Wang et al., KDD 2022 (arXiv 2206.12811); with the contrast: the
        code of AU+. The name stands for three layers, as there.

    Deviations:
        Unconfirmed: the noise and the values are those of the code, the paper was not at hand.

    Relations:
        λ = 0 is DirectAU on LightGCN. Without noise both views are the output itself.
    """

    config_class: ClassVar[type[AUPlusConfig]] = AUPlusConfig
    uses_negatives = False

    def __init__(self, config: AUPlusConfig | None = None, **about: Any) -> None:
        super().__init__(config, **about)
        self.draws = Draws(about.get("rng"))
        self._views: list[Tables] | None = None

    def propagate(self, encoder: GraphEncoder) -> Tables:  # type: ignore[override]
        """Return the backbone's output, and keep those of two noisy layers 0."""
        self.draws.advance()
        generator, eps = self.draws.generator(), self.config.noise
        tables = encoder.user_table, encoder.item_table
        noisy = [[signed_noise(table, eps, generator) for table in tables] for _ in range(2)]
        self._views = [encoder((users, items)) for users, items in noisy]
        return encoder()

    def batch_loss(  # type: ignore[override]
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,  # noqa: ARG002
        *,
        outputs: Tables,
        **context: Any,
    ) -> torch.Tensor:
        """Return alignment and uniformity of the batch plus the weighted contrast of the views."""
        config = self.config
        rows = context["users"], context["pos_items"]
        uniformity = [
            functional.uniformity(table.index_select(0, row))
            for table, row in zip(outputs, rows, strict=True)
        ]
        views = contrast_views(made(self._views, self), tau=config.view_tau, **context)
        total = functional.alignment(pos).mean()
        total = torch.add(total, uniformity[0] + uniformity[1], alpha=config.gamma / 2)
        return torch.add(total, views, alpha=config.view_weight)
