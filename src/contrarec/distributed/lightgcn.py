"""LightGCN over users that are divided among workers.

A layer is the product with the worker's own edges, and a sum of the item halves over the workers.
The backward pass is the same: the gradient of the item vectors is added up before it spreads. Of
its last layer each worker keeps its own summand, for the sum of the item table's gradients that
follows anyway.
"""

from typing import Any

import torch

from contrarec.backbones.lightgcn import LightGCN
from contrarec.config import BackboneConfig
from contrarec.data.blocks import Block
from contrarec.data.interactions import Interactions
from contrarec.distributed.exchange import Exchange
from contrarec.kernels.propagate import BipartiteGraph, propagate

Tables = tuple[torch.Tensor, torch.Tensor]


class DividedLightGCN(LightGCN):
    """LightGCN with the user rows of one block and all item rows.

    Args:
        train: the block's interactions.
        config: as for `LightGCN`.
        generator: source of the initial values.
        block: has the items' degrees in the whole graph.
        exchange: adds up.
    """

    def __init__(
        self,
        train: Interactions,
        config: BackboneConfig,
        generator: torch.Generator | None,
        block: Block,
        exchange: Exchange,
    ) -> None:
        super().__init__(train, config, generator)
        self._exchange = exchange
        degrees = torch.from_numpy(block.item_counts).double()
        own = torch.from_numpy(train.user_counts).double()
        graph = self.graph
        users = torch.repeat_interleave(torch.arange(train.n_users), graph.user_indptr.diff())
        items = torch.repeat_interleave(torch.arange(train.n_items), graph.item_indptr.diff())
        self.user_weights = (own[users] * degrees[graph.user_items.long()]).rsqrt().float()
        self.item_weights = (own[graph.item_users.long()] * degrees[items]).rsqrt().float()

    def forward(self, tables: Tables | None = None, graph: BipartiteGraph | None = None) -> Tables:
        """Return the mean of the layers 0 to `n_layers`, as `LightGCN` does."""
        users, items = tables or (self.user_table, self.item_table)
        if self.n_layers == 0:
            return users, items
        weight = self.ego_weight
        averaged: Tables = _Average.apply(  # type: ignore[no-untyped-call]
            graph or self.graph, users, items, self.n_layers, weight is None, self._exchange
        )
        if not weight:
            return averaged
        return torch.lerp(averaged[0], users, weight), torch.lerp(averaged[1], items, weight)


class _Average(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        graph: BipartiteGraph,
        users: torch.Tensor,
        items: torch.Tensor,
        n_layers: int,
        layer_zero: bool,
        exchange: Exchange,
    ) -> Tables:
        ctx.graph, ctx.n_layers, ctx.layer_zero, ctx.exchange = (
            graph,
            n_layers,
            layer_zero,
            exchange,
        )
        own, others = _horner(graph, users, items, n_layers, layer_zero, exchange)
        return own, exchange.add_up(others) + layer_zero * items / (n_layers + layer_zero)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        users, items = grads
        scale = ctx.n_layers + ctx.layer_zero
        total = ctx.exchange.add_up(items.clone(memory_format=torch.contiguous_format))
        own, others = _horner(ctx.graph, users, total, ctx.n_layers, ctx.layer_zero, ctx.exchange)
        return None, own, others + ctx.layer_zero * items / scale, None, None, None


def _horner(
    graph: BipartiteGraph,
    users: torch.Tensor,
    items: torch.Tensor,
    n_layers: int,
    layer_zero: bool,
    exchange: Exchange,
) -> Tables:
    """Return the users' mean, and this worker's summand of the items' without their layer 0.

    `X ← E + A·X`, as in `contrarec.kernels.propagate`; `items` are the same on all workers.
    """
    scale = n_layers + layer_zero
    x_users, x_items = users, items
    for layer in range(1, n_layers + 1):
        next_users, next_items = propagate(graph, x_users, x_items, 1, layer_zero=False)
        if layer == n_layers:
            break
        x_users, x_items = users + next_users, items + exchange.add_up(next_items)
    return (layer_zero * users + next_users) / scale, next_items / scale
