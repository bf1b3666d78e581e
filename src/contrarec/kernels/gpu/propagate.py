"""LightGCN's propagation on a GPU: the same Horner's rule, each step a sum of table rows."""

from typing import Any

import torch

from contrarec.kernels.gpu.rows import row_sums
from contrarec.kernels.propagate import BipartiteGraph


def propagate(
    graph: BipartiteGraph,
    user_vectors: torch.Tensor,
    item_vectors: torch.Tensor,
    n_layers: int,
    *,
    layer_zero: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute `contrarec.kernels.propagate.propagate` for `n_layers` ≥ 1.

    Layers are kept in the tables' type; sums are accumulated in float32 (float64 in float64).
    """
    users, items = _Propagate.apply(  # type: ignore[no-untyped-call]
        graph, user_vectors, item_vectors, n_layers, layer_zero
    )
    return users, items


class _Propagate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        graph: BipartiteGraph,
        users: torch.Tensor,
        items: torch.Tensor,
        n_layers: int,
        layer_zero: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.graph, ctx.n_layers, ctx.layer_zero = graph, n_layers, layer_zero
        return _horner(graph, users, items, n_layers, layer_zero)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        users, items = grads  # the map is symmetric: its own transpose
        return None, *_horner(ctx.graph, users, items, ctx.n_layers, ctx.layer_zero), None, None


def _horner(
    graph: BipartiteGraph,
    users: torch.Tensor,
    items: torch.Tensor,
    n_layers: int,
    layer_zero: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    x_users, x_items = users.contiguous(), items.contiguous()
    bases: tuple[torch.Tensor | None, torch.Tensor | None] = x_users, x_items
    for layer in range(1, n_layers + 1):
        last = layer == n_layers
        divisor = n_layers + layer_zero if last else 1
        if last and not layer_zero:
            bases = None, None
        x_users, x_items = (
            row_sums(*graph[:3], x_items, dtype=users.dtype, base=bases[0], divisor=divisor),
            row_sums(*graph[3:], x_users, dtype=items.dtype, base=bases[1], divisor=divisor),
        )
    return x_users, x_items
