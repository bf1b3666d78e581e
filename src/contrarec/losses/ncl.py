"""NCL (Lin et al., WWW 2022): BPR, and neighbours as positives: over the graph, and in clusters."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from contrarec.config import require_not_negative, require_positive, settle
from contrarec.errors import ConfigError
from contrarec.losses import functional
from contrarec.losses.base import Loss, Tables
from contrarec.losses.functional import contrast
from contrarec.losses.kmeans import kmeans
from contrarec.losses.views import Draws, GraphEncoder, made


@dataclass(frozen=True, kw_only=True)
class NCLConfig:
    """NCL."""

    view_tau: float = 0.1
    """Temperature of both contrasts; published .05 to .1."""
    layer_weight: float = 1e-6
    """Weight of the contrast over the graph, a sum over the batch; published 1e-7 to 1e-6."""
    prototype_weight: float = 1e-7
    """Weight of the contrast with centroids, a sum over the batch; published 5e-8 to 1e-7."""
    item_share: float = 1.0
    """α, what the items' part of the contrast over the graph weighs; published .5 to 1.5."""
    hops: int = 1
    """k: layer 0 is contrasted with layer 2k, the output of which the backbone may lack."""
    n_prototypes: int = 100
    """Clusters of users, and of items, at most one for each; published 10 to 2000."""
    kmeans_steps: int = 10
    """Lloyd's steps each time the clusters are made anew."""
    cluster_interval: int = 1
    """Epochs from one time to the next."""
    warm_up_epochs: int = 20
    """Epochs before the first time; until then there is no contrast with centroids."""

    def __post_init__(self) -> None:
        settle(self)
        require_not_negative(self, "layer_weight", "prototype_weight", "item_share")
        require_not_negative(self, "kmeans_steps", "warm_up_epochs")
        require_positive(self, "view_tau", "hops", "n_prototypes", "cluster_interval")


class NCL(Loss):
    """NCL: BPR, contrast of layer 0 with layer 2k, and of layer 0 with the centroids of clusters.

    `BPR + w_l·Σ_b (C(u^2k, u^0) + α·C(i^2k, i^0)) + w_p·Σ_b (C(u^0, c_u) + C(i^0, c_i))`, where C
    is InfoNCE among all users or all items, or among all centroids. The centroids are constants:
    k-means of layer 0, once in `cluster_interval` epochs.

    Args:
        config: hyper-parameters; the defaults if None.
        n_users: number of users.
        n_items: number of items.
        dim: dimension of the backbone's tables.
        rng: seed or generator of where k-means starts; None draws a seed.
        about: what else a loss may be told.

    Raises:
        ConfigError: one of the three numbers is missing.

    Source:
        Lin et al., "Improving Graph Collaborative Filtering with Neighborhood-enriched
        Contrastive Learning", WWW 2022 (arXiv 2202.06200), with the sums over the batch of
        the authors' code, where α is not in the contrast with centroids.

    Deviations:
        Lloyd's steps from random rows, on all rows, instead of faiss.

    Relations:
        Both weights 0 is BPR on LightGCN. One cluster: its contrast is 0.
    """

    config_class: ClassVar[type[NCLConfig]] = NCLConfig
    similarity = "dot"
    due: torch.Tensor
    clustered: torch.Tensor

    def __init__(
        self,
        config: NCLConfig | None = None,
        *,
        n_users: int | None = None,
        n_items: int | None = None,
        dim: int | None = None,
        rng: Any = None,
        **about: Any,
    ) -> None:
        super().__init__(config, **about)
        if n_users is None or n_items is None or dim is None:
            raise ConfigError(
                "`n_users`, `n_items` and `dim` must be given to NCL, got "
                f"{n_users}, {n_items} and {dim}."
            )
        self.draws = Draws(rng)
        for side, n in (("user", n_users), ("item", n_items)):
            k = min(self.config.n_prototypes, n)
            self.register_buffer(f"{side}_centroids", torch.zeros(k, dim))
            self.register_buffer(f"{side}_cluster", torch.zeros(n, dtype=torch.int64))
        self.register_buffer("due", torch.tensor(False))
        self.register_buffer("clustered", torch.tensor(False))
        self._layers: tuple[Tables, Tables] | None = None

    def begin_epoch(self, epoch: int, outputs: Tables) -> None:  # noqa: ARG002
        """Have the clusters made anew by the next step, if it is time."""
        since = epoch - self.config.warm_up_epochs
        self.due.fill_(since >= 0 and since % self.config.cluster_interval == 0)

    def propagate(self, encoder: GraphEncoder) -> Tables:  # type: ignore[override]
        """Return the backbone's output, and keep layer 0 and layer 2k."""
        if self.due:
            self._make_clusters((encoder.user_table.detach(), encoder.item_table.detach()))
        far = 2 * self.config.hops
        layers = encoder.layers(max(encoder.n_layers, far))
        self._layers = layers[0], layers[far]
        return encoder.mean(layers)

    def batch_loss(  # type: ignore[override]
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,
        *,
        users: torch.Tensor,
        pos_items: torch.Tensor,
        **_: Any,
    ) -> torch.Tensor:
        """Return BPR plus both contrasts of the batch's users and positive items."""
        config, tau = self.config, self.config.view_tau
        near, far = made(self._layers, self)
        total = functional.bpr(pos, neg).mean()
        shares = {"user": 1.0, "item": config.item_share}
        for ego, context, batch, side in zip(near, far, (users, pos_items), shares, strict=True):
            rows, times = torch.unique(batch, return_counts=True)
            times, own = times.to(ego), ego.index_select(0, rows)  # a row's loss counts as often
            over_graph = contrast(context.index_select(0, rows), own, ego, tau=tau) @ times
            total = torch.add(total, over_graph, alpha=config.layer_weight * shares[side])
            if self.clustered:
                centroids = getattr(self, f"{side}_centroids")
                mine = centroids[getattr(self, f"{side}_cluster")[rows]]
                in_clusters = contrast(own, mine, centroids, tau=tau) @ times
                total = torch.add(total, in_clusters, alpha=config.prototype_weight)
        return total

    def _make_clusters(self, tables: Tables) -> None:
        self.draws.advance()
        generator = self.draws.generator()
        for table, side in zip(tables, ("user", "item"), strict=True):
            kept = getattr(self, f"{side}_centroids"), getattr(self, f"{side}_cluster")
            found = kmeans(table, len(kept[0]), steps=self.config.kmeans_steps, generator=generator)
            for buffer, value in zip(kept, found, strict=True):
                buffer.copy_(value)
        self.due.fill_(False)
        self.clustered.fill_(True)
