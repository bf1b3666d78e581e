"""AlphaRec (Sheng et al., ICLR 2025): given vectors of items, mapped; users are means of items."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from contrarec.backbones.lightgcn import Tables, average_layers
from contrarec.backbones.tables import Backbone
from contrarec.config import BackboneConfig
from contrarec.data.interactions import Interactions
from contrarec.kernels.propagate import BipartiteGraph, bipartite_graph, propagate

_FIRST = "map.0.weight"


class AlphaRec(Backbone):
    """AlphaRec: what learns is one map of given item vectors, such as those of a language model.

    Layer 0 of an item is `W z` (`map = "linear"`) or `W₂ LeakyReLU(W₁ z + b₁) + b₂` (`"mlp"`) of
    its given vector z. Layer 0 of a user is the mean over the items of its history. The output is
    LightGCN's mean of the layers 0 to `n_layers`, and with `n_layers = 0` layer 0 itself. So an
    item has a vector whether or not anyone has had it; one that nobody has had keeps its layer 0.

    There are no learned rows: `user_table` and `item_table` are the layer-0 vectors of the latest
    pass, as constants, and L2 is on the weights of the map, `l2/2 · ‖W‖²` a step. A run keeps the
    items' layer 0 beside the map, and is read without the given vectors.

    Args:
        train: the graph.
        config: gives `dim`, `n_layers`, `ego_weight`, `map` and `hidden`.
        generator: source of the initial values, uniform within `±1/√inputs` as in torch's `Linear`.
        features: `[n_items, width]` float32, the given vectors; None for a run that is read.

    Source:
        Sheng et al., "Language Representations Can be What Recommenders Need: Findings and
        Potentials", ICLR 2025 (arXiv 2407.05441), and the authors' code. The loss there is InfoNCE
        with τ = .15 (.2 on one data set), 256 negatives, batches of 4,096, lr = 5e-4, two layers,
        dim = 64 and no L2.

    Deviations:
        With `"mlp"` their users are the map of the mean of the given vectors; here they are the
        mean of the mapped ones, so that no step maps all users and a new user needs no given
        vectors. With `"linear"`, which has no bias there either, the two are the same.
        Unconfirmed: how wide the hidden layer is for a language model that their code does not
        list. It has ½, 2, 8 or 9/32 times the width of the vectors, "to keep the same parameter
        size"; the default here is ½, theirs for text-embedding-3-large.
        All their items have interactions, so that nothing is said about those that have none.

    Relations:
        With the identity matrix as features and a linear map, the map is a free table of items.
        A user folded in gets the vector of a trained user with the same history.
    """

    ranks_unseen_items: ClassVar[bool] = True
    features: torch.Tensor | None
    map: nn.Sequential
    user_root: torch.Tensor
    item_root: torch.Tensor

    def __init__(
        self,
        train: Interactions,
        config: BackboneConfig,
        generator: torch.Generator | None = None,
        features: np.ndarray | None = None,
    ) -> None:
        super().__init__(train, config, generator)
        self.config = config
        self.register_buffer("features", None, persistent=False)
        self.register_buffer("user_table", torch.zeros(train.n_users, config.dim), persistent=False)
        self.register_buffer("item_table", torch.zeros(train.n_items, config.dim))
        if features is not None:
            self.features = torch.from_numpy(features)
            self.map = _make_map(features.shape[1], config)
            for layer in self.map:
                if isinstance(layer, nn.Linear):
                    bound = 1 / math.sqrt(layer.in_features)
                    for parameter in layer.parameters():
                        nn.init.uniform_(parameter, -bound, bound, generator=generator)
        graph = bipartite_graph(train.indptr, train.indices, train.n_items)
        for name, tensor in graph._asdict().items():
            self.register_buffer(name, tensor, persistent=False)
        for side in ("user", "item"):
            degrees = getattr(graph, f"{side}_indptr").diff()[:, None].float()  # [n, 1]
            self.register_buffer(f"{side}_root", degrees.sqrt(), persistent=False)

    @property
    def graph(self) -> BipartiteGraph:
        """The normalised adjacency, on the module's device."""
        return BipartiteGraph(*(getattr(self, name) for name in BipartiteGraph._fields))

    def forward(self) -> Tables:
        """Return the mean of the layers 0 to `n_layers`."""
        users, items = self._layer_zero()
        self.user_table, self.item_table = users.detach(), items.detach()
        config = self.config
        if config.n_layers == 0:
            return users, items
        layers = average_layers(self.graph, (users, items), config.n_layers, config.ego_weight)
        return layers[0], torch.where(self.item_root > 0, layers[1], items)

    def _layer_zero(self) -> Tables:
        """Map the given vectors, and average those of each user's items; zeros without any."""
        items = self.item_table if self.features is None else self.map(self.features)
        # LightGCN's weight of a pair is 1/√(n_u n_i): √n_i before and 1/√n_u after make it 1/n_u
        nobody = items.new_zeros(len(self.user_root), items.shape[1])
        sums, _ = propagate(self.graph, nobody, self.item_root * items, 1, layer_zero=False)
        return sums / self.user_root.clamp(min=1), items

    def add_l2(
        self,
        users: torch.Tensor,
        items: torch.Tensor,  # noqa: ARG002 - no rows are gathered
        weight: float,
    ) -> None:
        """Add to the gradients that of `B·weight/2 · ‖W‖²`: each row of a batch needs all of W."""
        for parameter in self.map.parameters():
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach(), alpha=weight * len(users))

    @torch.no_grad()
    def fold_in(self, history: Interactions) -> torch.Tensor:
        """Return the vectors that trained users with these histories have, `[n, dim]`."""
        config, pairs = self.config, replace(history, weight=None).to_scipy()
        counts = torch.from_numpy(history.user_counts).clamp(min=1)[:, None].float()

        def add_up(items: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(pairs @ items.cpu().numpy())  # [n, dim]

        tables = self._layer_zero()
        users = add_up(tables[1]) / counts
        rest = []
        for layer in range(config.n_layers):
            if layer:
                tables = propagate(self.graph, *tables, 1, layer_zero=False)
            rest.append(add_up(tables[1] / self.item_root.clamp(min=1)) / counts.sqrt())
        if rest:
            share = config.ego_weight
            share = 1 / (config.n_layers + 1) if share is None else share
            users = torch.lerp(torch.stack(rest).mean(0), users, share)
        return users.to(self.item_table.device)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **named: Any) -> Any:
        """Put weights back; without features, which tell the width of the map, they tell it."""
        if self.features is None and _FIRST in state_dict:
            width = state_dict[_FIRST].shape[1]
            self.map = _make_map(width, self.config).to(self.item_table.device)
        return super().load_state_dict(state_dict, *args, **named)


def _make_map(width: int, config: BackboneConfig) -> nn.Sequential:
    """Make the map with weights that are not set yet, without drawing from the global stream."""
    if config.map == "linear":
        layers: list[nn.Module] = [nn.Linear(width, config.dim, bias=False, device="meta")]
    else:
        hidden = config.hidden or max(1, width // 2)
        layers = [
            nn.Linear(width, hidden, device="meta"),
            nn.LeakyReLU(),
            nn.Linear(hidden, config.dim, device="meta"),
        ]
    return nn.Sequential(*layers).to_empty(device="cpu")
