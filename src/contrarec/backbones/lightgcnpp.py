"""LightGCN++ (Lee et al., RecSys 2024): unit vectors, free exponents of the degrees."""

import torch
import torch.nn.functional as F

from contrarec.backbones.tables import TableBackbone
from contrarec.config import BackboneConfig
from contrarec.data.interactions import Interactions
from contrarec.kernels.propagate import BipartiteGraph, bipartite_graph, propagate

EGO_WEIGHT = 0.2


class LightGCNPlusPlus(TableBackbone):
    """LightGCN++: layer `l + 1` is `D^−α A D^−β` times the unit vectors of layer `l`.

    The output is `γ` times layer 0 plus `1 − γ` times the mean of the other layers. `α` is
    `degree_exponent`, `β` is `neighbour_exponent`, `γ` is `ego_weight`. The product is that with
    LightGCN's symmetric adjacency between two scalings of the rows, so its kernel serves.

    Args:
        train: the graph.
        config: gives `dim`, `n_layers` and the three settings; by default those that the authors
            recommend, .6, −.1 and .2.
        generator: source of the initial values.

    Source:
        Lee, Kim and Shin, "Revisiting LightGCN: Unexpected Inflexibility, Inconsistency, and A
        Remedy Towards Improved Recommendation", RecSys 2024, as their code defines it.

    Deviations:
        Xavier-normal initial values, as for every backbone here; theirs have variance .01.

    Relations:
        With `n_layers = 0` it is `MF`. One layer of unit rows under α = β = ½ is LightGCN with the
        same `ego_weight`.
    """

    user_before: torch.Tensor
    user_after: torch.Tensor
    item_before: torch.Tensor
    item_after: torch.Tensor

    def __init__(
        self,
        train: Interactions,
        config: BackboneConfig,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(train, config, generator)
        self.n_layers = config.n_layers
        self.ego_weight = EGO_WEIGHT if config.ego_weight is None else config.ego_weight
        graph = bipartite_graph(train.indptr, train.indices, train.n_items)
        for name, tensor in graph._asdict().items():
            self.register_buffer(name, tensor, persistent=False)
        for side in ("user", "item"):
            degrees = getattr(graph, f"{side}_indptr").diff().clamp(min=1).float()[:, None]
            before = degrees ** (0.5 - config.neighbour_exponent)  # [n, 1]
            after = degrees ** (0.5 - config.degree_exponent)
            self.register_buffer(f"{side}_before", before, persistent=False)
            self.register_buffer(f"{side}_after", after, persistent=False)

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the weighted mean of the layers 0 to `n_layers`."""
        users: torch.Tensor = self.user_table
        items: torch.Tensor = self.item_table
        if self.n_layers == 0:
            return users, items
        graph = BipartiteGraph(*(getattr(self, name) for name in BipartiteGraph._fields))
        user_sum, item_sum = torch.zeros_like(users), torch.zeros_like(items)
        for _ in range(self.n_layers):
            users, items = propagate(
                graph,
                self.user_before * F.normalize(users),
                self.item_before * F.normalize(items),
                1,
                layer_zero=False,
            )
            users, items = self.user_after * users, self.item_after * items
            user_sum, item_sum = user_sum + users, item_sum + items
        weight, rest = self.ego_weight, (1 - self.ego_weight) / self.n_layers
        return (
            weight * self.user_table + rest * user_sum,
            weight * self.item_table + rest * item_sum,
        )
