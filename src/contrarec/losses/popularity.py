"""BC loss and PopGo: what popularity alone foretells, learned beside the model and discounted.

Users and items are bucketed by their number of training interactions; each bucket has a vector.
The vectors are fitted to the interactions by InfoNCE of their own. What they foretell (a shortcut)
is a constant for the model's loss: it says how much the model still has to explain.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from contrarec.config import require, require_not_negative, require_positive, settle
from contrarec.errors import ConfigError
from contrarec.kernels.scores import sampled_scores
from contrarec.losses import functional
from contrarec.losses.base import History, Loss, Tables, generator_of, take


class PopularityTables(nn.Module):
    """A vector for every number of interactions that some user, or some item, has.

    Args:
        history: the training interactions.
        n_items: size of the catalogue.
        dim: length of a vector.
        freeze_epochs: epochs after which the vectors stay as they are.
        generator: draws the vectors (Xavier normal, as in the authors' code).

    Raises:
        ConfigError: `history` or `n_items` is missing.
    """

    user_bucket: torch.Tensor
    item_bucket: torch.Tensor
    user_vectors: nn.Parameter
    item_vectors: nn.Parameter
    frozen: torch.Tensor

    def __init__(
        self,
        history: History | None,
        n_items: int | None,
        dim: int,
        *,
        freeze_epochs: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if history is None or n_items is None:
            raise ConfigError("`history` and `n_items` must be given for popularity, got None.")
        self.freeze_epochs = freeze_epochs
        item_counts = np.bincount(history.indices, minlength=n_items)
        for side, counts in (("user", np.diff(history.indptr)), ("item", item_counts)):
            levels, bucket = np.unique(counts, return_inverse=True)
            # not in a checkpoint: they come with the data
            self.register_buffer(f"{side}_bucket", torch.from_numpy(bucket), persistent=False)
            table = nn.Parameter(torch.empty(len(levels), dim))
            setattr(self, f"{side}_vectors", table)
            nn.init.xavier_normal_(table, generator=generator)
        self.register_buffer("frozen", torch.tensor(freeze_epochs == 0))

    def begin_epoch(self, epoch: int) -> None:
        """Freeze the vectors from `freeze_epochs` on."""
        self.frozen.fill_(epoch >= self.freeze_epochs)

    def shortcut(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Return `sigmoid ⟨p_u, p_j⟩` of `items [B, N]`, a constant."""
        with torch.no_grad():
            return torch.sigmoid(self._scores(users, items, cosine=False))

    def losses(
        self,
        users: torch.Tensor,
        items: torch.Tensor,
        tau: float,
        neg_log_weight: torch.Tensor | None,
    ) -> torch.Tensor | float:
        """Return InfoNCE of the vectors' cosines `[B]`; column 0 of the items is the positive.

        0 if they are frozen: without a gradient Adam leaves them alone, with one of zero it would
        carry them on.
        """
        if self.frozen:
            return 0.0
        cosines = self._scores(users, items, cosine=True)
        return functional.infonce(
            cosines[:, 0], cosines[:, 1:], tau=tau, neg_log_weight=neg_log_weight
        )

    def _scores(self, users: torch.Tensor, items: torch.Tensor, *, cosine: bool) -> torch.Tensor:
        buckets = self.user_bucket[users], self.item_bucket[items]
        return sampled_scores(self.user_vectors, self.item_vectors, *buckets, cosine=cosine)


@dataclass(frozen=True, kw_only=True)
class PopularityConfig:
    """BC loss and PopGo: the model's loss and that of the popularity vectors."""

    discount: Literal["margin", "scale"] = "margin"
    """What a shortcut does: shrink the positive's angular margin (BC), or scale cosines (PopGo)."""
    tau: float = 0.07
    """Temperature of the model's cosines."""
    tau_pop: float = 0.1
    """Temperature of the popularity vectors' cosines."""
    pop_weight: float = 0.5
    """Share l of the popularity vectors' loss, at most 1."""
    freeze_epochs: int = 5
    """Epochs after which the popularity vectors stay as they are."""

    def __post_init__(self) -> None:
        settle(self)
        require_positive(self, "tau", "tau_pop")
        require(0 <= self.pop_weight <= 1, "pop_weight", "lie in [0, 1]", self.pop_weight)
        require_not_negative(self, "freeze_epochs")


class PopularityLoss(Loss):
    """BC loss and PopGo: InfoNCE that leaves to popularity what popularity foretells.

    With the shortcut `c_uj = sigmoid ⟨p_u, p_j⟩` of the popularity vectors p, a constant:

    - BC (`margin`): `(1−l)·bc(pos, neg; margin = 1 − c_ui) + l·InfoNCE(p)`, so that the model must
      bring what popularity does not foretell closer than the rest;
    - PopGo (`scale`): `(1−l)·InfoNCE(c_ui·pos, c_uj·neg_j) + l·InfoNCE(p)`.

    Recommendations rank by plain cosines.

    Args:
        config: hyper-parameters; the defaults if None.
        history: the training interactions, for the buckets.
        n_items: size of the catalogue.
        dim: length of a popularity vector, as of the model's; 64 if None.
        rng: seed or generator that draws them.

    Raises:
        ConfigError: `history` or `n_items` is missing.

    Source:
        BC: Zhang et al., "Incorporating Bias-aware Margins into Contrastive Loss for Collaborative
        Filtering", NeurIPS 2022; the margin is that of the authors' code. PopGo: Zhang et al.,
        "Robust Collaborative Filtering to Popularity Distribution Shift", TOIS 2024.

    Deviations:
        The popularity vectors learn for `freeze_epochs` epochs beside the model; in the authors'
        code they learn alone for so long, and the model afterwards. They are not under L2. For the
        angle of BC see `functional.bc`.

    Relations:
        With l = 0: BC whose popularity foretells everything is InfoNCE, PopGo with a constant
        shortcut c is InfoNCE of c·s.

    >>> history = History(np.array([0, 1, 3]), np.array([1, 0, 1]))
    >>> loss = PopularityLoss(history=history, n_items=2, dim=4, rng=0)
    >>> [tuple(vectors.shape) for vectors in loss.learned()]  # users: 1, 2; items: 1, 2
    [(2, 4), (2, 4)]
    """

    config_class: ClassVar[type[PopularityConfig]] = PopularityConfig
    weighs_negatives = True
    row_sparse = False

    def __init__(
        self,
        config: PopularityConfig | None = None,
        *,
        history: History | None = None,
        n_items: int | None = None,
        dim: int | None = None,
        **about: Any,
    ) -> None:
        super().__init__(config, history=history, n_items=n_items, dim=dim, **about)
        self.popularity = PopularityTables(
            history,
            n_items,
            dim or 64,
            freeze_epochs=self.config.freeze_epochs,
            generator=generator_of(about.get("rng")),
        )

    def learned(self) -> Iterable[nn.Parameter]:
        """Return the popularity vectors."""
        return self.popularity.parameters()

    def begin_epoch(self, epoch: int, outputs: Tables) -> None:  # noqa: ARG002
        """Freeze the popularity vectors when it is time."""
        self.popularity.begin_epoch(epoch)

    def per_row(
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,
        *,
        neg_log_weight: torch.Tensor | None = None,
        **context: Any,
    ) -> torch.Tensor:
        """Return the losses `[B]`."""
        users, pos_items, neg_items = take(context, "users", "pos_items", "neg_items")
        items = torch.cat([pos_items[:, None], neg_items], 1)  # [B, 1 + N]
        config = self.config
        weighted: dict[str, Any] = {"tau": config.tau, "neg_log_weight": neg_log_weight}
        if config.discount == "margin":
            margin = 1 - self.popularity.shortcut(users, items[:, :1]).squeeze(1)
            losses = functional.bc(pos, neg, margin=margin, **weighted)
        else:
            shortcut = self.popularity.shortcut(users, items)
            losses = functional.infonce(pos * shortcut[:, 0], neg * shortcut[:, 1:], **weighted)
        fitted = self.popularity.losses(users, items, config.tau_pop, neg_log_weight)
        share: float = config.pop_weight
        return (1 - share) * losses + share * fitted
