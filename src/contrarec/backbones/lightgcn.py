"""LightGCN (He et al., SIGIR 2020): the mean of a table and its averages over the graph."""

import torch

from contrarec.backbones.tables import Backbone
from contrarec.config import BackboneConfig
from contrarec.data.interactions import Interactions
from contrarec.kernels.propagate import BipartiteGraph, bipartite_graph, propagate


class LightGCN(Backbone):
    """LightGCN: layer `l + 1` averages layer `l` over neighbours; the output is the layers' mean.

    The graph is kept as compressed sparse rows, `O(interactions)`. With `n_layers = 0` it is `MF`.

    Args:
        train: the graph.
        config: gives `dim` and `n_layers`.
        generator: source of the initial values.
    """

    def __init__(
        self,
        train: Interactions,
        config: BackboneConfig,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(train, config, generator)
        self.n_layers = config.n_layers
        graph = bipartite_graph(train.indptr, train.indices, train.n_items)
        for name, tensor in graph._asdict().items():
            self.register_buffer(name, tensor, persistent=False)

    @property
    def graph(self) -> BipartiteGraph:
        """The normalised adjacency, on the module's device."""
        return BipartiteGraph(*(getattr(self, name) for name in BipartiteGraph._fields))

    def forward(self, users: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean of the layers 0 to `n_layers`.

        Args:
            users: `[B]`, the only users whose rows will be read; None stands for all. Naming them
                makes a training step cheaper.
        """
        return propagate(self.graph, self.user_table, self.item_table, self.n_layers, users=users)
