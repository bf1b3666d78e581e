"""LightGCN (He et al., SIGIR 2020): the mean of a table and its averages over the graph."""

from collections.abc import Callable, Sequence

import torch

from contrarec.backbones.tables import TableBackbone
from contrarec.config import BackboneConfig
from contrarec.data.interactions import Interactions
from contrarec.kernels.propagate import BipartiteGraph, bipartite_graph, propagate

Tables = tuple[torch.Tensor, torch.Tensor]


class LightGCN(TableBackbone):
    """LightGCN: layer `l + 1` averages layer `l` over neighbours; the output is the layers' mean.

    The graph is kept as compressed sparse rows, `O(interactions)`. With `n_layers = 0` it is `MF`.

    Args:
        train: the graph.
        config: gives `dim`, `n_layers` and, if layer 0 weighs more or less than the others,
            `ego_weight`.
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
        self.ego_weight = config.ego_weight
        graph = bipartite_graph(train.indptr, train.indices, train.n_items)
        for name, tensor in graph._asdict().items():
            self.register_buffer(name, tensor, persistent=False)

    @property
    def graph(self) -> BipartiteGraph:
        """The normalised adjacency, on the module's device."""
        return BipartiteGraph(*(getattr(self, name) for name in BipartiteGraph._fields))

    def forward(self, tables: Tables | None = None, graph: BipartiteGraph | None = None) -> Tables:
        """Return the mean of the layers 0 to `n_layers`.

        Args:
            tables: stand in for layer 0.
            graph: stands in for the graph.
        """
        tables = tables or (self.user_table, self.item_table)
        return average_layers(graph or self.graph, tables, self.n_layers, self.ego_weight)

    def layers(
        self,
        n_layers: int | None = None,
        perturb: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> list[Tables]:
        """Return the layers 0 to `n_layers` (the backbone's own number if None) one by one.

        Args:
            n_layers: how many beside layer 0.
            perturb: what every table but those of layer 0 goes through, once it is averaged.
        """
        layers: list[Tables] = [(self.user_table, self.item_table)]
        for _ in range(self.n_layers if n_layers is None else n_layers):
            users, items = propagate(self.graph, *layers[-1], 1, layer_zero=False)
            layers.append((perturb(users), perturb(items)) if perturb else (users, items))
        return layers

    def mean(self, layers: Sequence[Tables]) -> Tables:
        """Return the output from the layers 0 to `n_layers`, as `forward` weighs them."""
        averaged = layers[1 : self.n_layers + 1]
        if not averaged:
            return layers[0]
        rest = _mean([users for users, _ in averaged]), _mean([items for _, items in averaged])
        weight = 1 / (self.n_layers + 1) if self.ego_weight is None else self.ego_weight
        return rest if weight == 0 else _mix(weight, layers[0], rest)


def average_layers(
    graph: BipartiteGraph, tables: Tables, n_layers: int, ego_weight: float | None = None
) -> Tables:
    """Return the mean of the layers 0 to `n_layers`, with layer 0 weighed by itself if asked for.

    Args:
        graph: the normalised adjacency.
        tables: layer 0.
        n_layers: how many beside layer 0.
        ego_weight: share of layer 0, the rest being the mean of the other layers; None: that of
            every layer.
    """
    if ego_weight is None or n_layers == 0:
        return propagate(graph, *tables, n_layers)
    rest = propagate(graph, *tables, n_layers, layer_zero=False)
    return rest if ego_weight == 0 else _mix(ego_weight, tables, rest)


def _mean(tables: Sequence[torch.Tensor]) -> torch.Tensor:
    return sum(tables[1:], tables[0]) / len(tables)


def _mix(weight: float, ego: Tables, rest: Tables) -> Tables:
    """Return `weight · ego + (1 − weight) · rest`, for users and for items."""
    return torch.lerp(rest[0], ego[0], weight), torch.lerp(rest[1], ego[1], weight)
