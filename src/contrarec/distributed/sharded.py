"""What learns where items are in shards: matrix factorisation, and the tables of an adversary."""

import torch
from torch import nn

from contrarec.backbones import Backbone
from contrarec.config import BackboneConfig
from contrarec.data.interactions import Interactions
from contrarec.distributed.exchange import Exchange
from contrarec.distributed.torchrec_tables import ShardedTable
from contrarec.kernels.l2 import add_l2
from contrarec.losses import EmbeddingHardness
from contrarec.sampling import Batch


class ShardedMF(Backbone):
    """Matrix factorisation: own users' rows, and a shard of the items'.

    Args:
        train: the block's interactions.
        config: gives `dim`.
        exchange: the workers that share the items.
    """

    row_sparse = True

    def __init__(self, train: Interactions, config: BackboneConfig, exchange: Exchange) -> None:
        super().__init__(train, config)
        self.items = ShardedTable(train.n_items, config.dim, exchange)
        self.user_table = nn.Parameter(torch.empty(train.n_users, config.dim))
        self.item_table = self.items.weight

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the users' rows, and those of the items that were fetched last."""
        return self.user_table, self.items.rows

    def own_vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the users' rows, and the shard of the items'."""
        return self.user_table, self.item_table

    def fetch(self, batch: Batch) -> Batch:
        """Fetch the items of a batch; return it with their places for their indices."""
        return batch._replace(items=self.items.fetch(batch.items))

    def add_l2(self, users: torch.Tensor, items: torch.Tensor, weight: float) -> None:
        """Add the gradient of L2; `items` are places of what was fetched last."""
        add_l2(self.user_table, users, weight)
        add_l2(self.items.rows, items, weight)


class ShardedHardness(EmbeddingHardness):
    """An adversary's tables: own users' rows, and a shard of the items'.

    Args:
        whole: gives the users' table, the budget and the optimizer; its items are left.
        n_items: of the whole.
        exchange: the workers that share the items.
    """

    def __init__(self, whole: EmbeddingHardness, n_items: int, exchange: Exchange) -> None:
        dim = whole.users.shape[1]
        super().__init__(1, 1, dim, eta=whole.eta, optimizer=whole.optimizer)
        self.table = ShardedTable(n_items, dim, exchange)
        self.users, self.items = whole.users, self.table.weight
        self._places = torch.empty(0)

    def fetch(self, neg_items: torch.Tensor) -> None:
        """Fetch the rows of a batch's negatives `[B, N]`, which it is then asked about."""
        self._places = self.table.fetch(neg_items)

    def item_rows(self, neg_items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # noqa: ARG002
        """Return what was fetched last, and the places of the negatives there."""
        return self.table.rows, self._places
