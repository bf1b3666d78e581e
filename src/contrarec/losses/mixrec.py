"""MixRec (Zhang and Zhang, WWW 2025): mixtures of a batch's vectors as positives and negatives."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from contrarec.config import require_not_negative, require_positive, settle
from contrarec.losses import functional
from contrarec.losses.base import Encoder, Loss, Tables
from contrarec.losses.functional import contrast
from contrarec.losses.views import Draws


@dataclass(frozen=True, kw_only=True)
class MixRecConfig:
    """MixRec."""

    view_weight: float = 0.1
    """λ, weight of the contrast with mixtures."""
    view_tau: float = 0.2
    """Temperature of that contrast; .2 in the authors' code."""
    concentration: float = 0.1
    """Of the Beta distribution that pairs are mixed by, and of the Dirichlet distribution that the
    whole batch is mixed by; .1 in the authors' code. Below 1, one part outweighs the others."""

    def __post_init__(self) -> None:
        settle(self)
        require_not_negative(self, "view_weight")
        require_positive(self, "view_tau", "concentration")


class MixRec(Loss):
    """MixRec: BPR, a softmax over mixed negatives, and contrast with mixtures of two and of all.

    `b_i·BPR + (1 − b_i)·C_1(u, i; mixed negatives) + λ·(M(users) + M(items))` with

    - `C_τ(a, p; c) = mean −log( e^{cos(a, p)/τ} / Σ_m e^{cos(a, c_m)/τ} )`,
    - `M(x) = b·C_τ(x, y; x, z) + (1 − b)·C_τ(x', y; x, z)`, `x'` the batch in another order,
      `y = b·x + (1 − b)·x'`, `z` one mixture of the batch by Dirichlet weights,
    - `b` one draw from a Beta distribution a batch, `b_u` for users and `b_i` for items; a mixed
      negative is that of a row and of another row by `b_i`.

    Args:
        config: hyper-parameters; the defaults if None.
        rng: seed or generator of the mixtures; None draws a seed.
        about: what else a loss may be told.

    Source:
        Zhang and Zhang, "MixRec: Individual and Collective Mixing Empowers Data Augmentation for
        Recommender Systems", WWW 2025 (arXiv 2501.13579), as the authors' code has it. The name
        stands for three layers without layer 0, in training and in ranking, as there.

    Deviations:
        BPR is over all negatives of a row, the mixture takes the first one: the authors draw one.
        The output is the mean of the layers, where the code has their sum. Unconfirmed: the value
        of λ.

    Relations:
        λ = 0 and b_i = 1 is BPR on LightGCN.
    """

    config_class: ClassVar[type[MixRecConfig]] = MixRecConfig
    similarity = "dot"

    def __init__(self, config: MixRecConfig | None = None, **about: Any) -> None:
        super().__init__(config, **about)
        self.draws = Draws(about.get("rng"))

    def propagate(self, encoder: Encoder) -> Tables:
        """Return the backbone's output; the step mixes by draws of its own."""
        self.draws.advance()
        return encoder()

    def batch_loss(  # type: ignore[override]
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,
        *,
        users: torch.Tensor,
        pos_items: torch.Tensor,
        neg_items: torch.Tensor,
        outputs: Tables,
        **_: Any,
    ) -> torch.Tensor:
        """Return the three parts of a batch."""
        config, rng = self.config, np.random.default_rng(self.draws.key())
        user_share, item_share = rng.beta(config.concentration, config.concentration, 2).tolist()
        weights = torch.from_numpy(rng.dirichlet(np.full(len(pos), config.concentration)))
        orders = [torch.from_numpy(rng.permutation(len(pos))).to(users.device) for _ in range(2)]

        u = outputs[0].index_select(0, users)  # [B, dim]
        i = outputs[1].index_select(0, pos_items)
        j = outputs[1].index_select(0, neg_items[:, 0])
        mixed = item_share * j + (1 - item_share) * j[orders[1]]
        softmax = contrast(u, i, mixed, tau=1.0).mean()
        ranking = item_share * functional.bpr(pos, neg).mean() + (1 - item_share) * softmax
        weights = weights.to(u)
        tau = config.view_tau
        views = mixing_contrast(u, user_share, orders[0], weights, tau=tau)
        views = views + mixing_contrast(i, item_share, orders[1], weights, tau=tau)
        return torch.add(ranking, views, alpha=config.view_weight)


def mixing_contrast(
    x: torch.Tensor, share: float, order: torch.Tensor, weights: torch.Tensor, *, tau: float
) -> torch.Tensor:
    """Return `M(x)`: rows and the rows they are mixed with, against their mixtures, `[]`.

    Args:
        x: `[B, dim]`.
        share: b, what a row's own vector weighs in its mixture.
        order: `[B]`, which row each is mixed with.
        weights: `[B]`, the mixture of all that stands in the denominators beside all rows.
        tau: temperature.
    """
    other = x[order]
    mixed = share * x + (1 - share) * other
    crowd = torch.cat([x, (weights @ x)[None]])  # [B + 1, dim]
    own = contrast(x, mixed, crowd, tau=tau).mean()
    # The other rows are the same in another order: denominators agree, only the positives differ
    nearer = F.cosine_similarity(x, mixed) - F.cosine_similarity(other, mixed)
    return own + (1 - share) * nearer.mean() / tau
