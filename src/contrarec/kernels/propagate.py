"""Neighbourhood averaging of LightGCN on the bipartite graph, as compressed sparse rows.

With the symmetrically normalised adjacency `A`, LightGCN is the linear map
`P = (1 + A + A² + … + A^L) / (L + 1)`. It is evaluated by Horner's rule, `X ← E + A·X`, so no layer
is stored; and because `A` is symmetric, so is `P`: the backward pass is the same function. Without
layer 0 it is `(A + … + A^L) / L`, of which `A` alone is the case `L = 1`.
"""

from typing import Any, NamedTuple

import numpy as np
import torch

from contrarec.errors import ConfigError
from contrarec.kernels.dispatch import Backend, resolve
from contrarec.kernels.grouping import group_rows


class BipartiteGraph(NamedTuple):
    """Both halves of the normalised adjacency, each as compressed sparse rows.

    The weight of user u and item i is `1 / sqrt(degree_u · degree_i)`.
    """

    user_indptr: torch.Tensor  # [n_users + 1] int64
    user_items: torch.Tensor  # [nnz] int32
    user_weights: torch.Tensor  # [nnz] float32
    item_indptr: torch.Tensor  # [n_items + 1] int64
    item_users: torch.Tensor  # [nnz] int32
    item_weights: torch.Tensor  # [nnz] float32

    def to(self, device: torch.device) -> "BipartiteGraph":
        """Return the graph on `device`."""
        return BipartiteGraph(*(tensor.to(device) for tensor in self))


def bipartite_graph(indptr: np.ndarray, indices: np.ndarray, n_items: int) -> BipartiteGraph:
    """Build the graph of a user × item CSR matrix.

    Args:
        indptr: `[n_users + 1]`.
        indices: `[nnz]` item indices.
        n_items: size of the catalogue.
    """
    degrees = np.diff(indptr)
    rows = np.repeat(np.arange(len(degrees), dtype=np.int32), degrees)
    item_indptr, order = group_rows(indices, n_items)
    item_degrees = np.diff(item_indptr)
    weights = (1.0 / np.sqrt(degrees[rows] * item_degrees[indices])).astype(np.float32)
    arrays = (indptr, indices, weights, item_indptr, rows[order], weights[order])
    return BipartiteGraph(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))


def drop_edges(graph: BipartiteGraph, keep: torch.Tensor) -> BipartiteGraph:
    """Leave edges out of a graph, in both directions, and weigh the rest by their new degrees.

    Args:
        graph: from `bipartite_graph`.
        keep: `[nnz]` bool, in the order of `user_items`.

    >>> graph = bipartite_graph(np.array([0, 2, 3]), np.array([0, 1, 1], np.int32), 2)
    >>> drop_edges(graph, torch.tensor([True, False, True])).user_weights
    tensor([1., 1.])
    """
    kept_before = torch.nn.functional.pad(keep.cumsum(0), (1, 0))
    indptr, indices = kept_before[graph.user_indptr], graph.user_items[keep]
    n_items = len(graph.item_indptr) - 1
    return bipartite_graph(indptr.cpu().numpy(), indices.cpu().numpy(), n_items).to(keep.device)


def item_half_order(graph: BipartiteGraph) -> torch.Tensor:
    """Return for each edge of the item half its place in the user half, `[nnz]`."""
    n_items = len(graph.item_indptr) - 1
    order = group_rows(graph.user_items.cpu().numpy(), n_items)[1]
    return torch.from_numpy(order).long().to(graph.user_items.device)


def propagate(
    graph: BipartiteGraph,
    user_vectors: torch.Tensor,
    item_vectors: torch.Tensor,
    n_layers: int,
    *,
    layer_zero: bool = True,
    backend: Backend = "auto",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Average the layers 0 to `n_layers` of LightGCN. Differentiable in both tables.

    Args:
        graph: from `bipartite_graph`.
        user_vectors: `[n_users, dim]`, layer 0.
        item_vectors: `[n_items, dim]`, layer 0.
        n_layers: number of propagation steps; 0 returns the inputs.
        layer_zero: False averages the layers 1 to `n_layers`; with one layer that is the product
            with the adjacency alone, which leads from one layer to the next.
        backend: `auto`, `reference`, `numba` or `triton`.

    Returns:
        `[n_users, dim]` and `[n_items, dim]`.

    Raises:
        ConfigError: no layer is left.
    """
    if n_layers == 0:
        if not layer_zero:
            raise ConfigError("`n_layers` must be at least 1 without layer 0, got 0.")
        return user_vectors, item_vectors
    twin = resolve(backend, user_vectors, item_vectors, gpu=True)
    if twin == "reference":
        return propagate_reference(
            graph, user_vectors, item_vectors, n_layers, layer_zero=layer_zero
        )
    if twin == "triton":
        from contrarec.kernels.gpu import propagate as gpu

        return gpu.propagate(graph, user_vectors, item_vectors, n_layers, layer_zero=layer_zero)
    users, items = _Propagate.apply(  # type: ignore[no-untyped-call]
        graph, user_vectors, item_vectors, n_layers, layer_zero
    )
    return users, items


def propagate_reference(
    graph: BipartiteGraph,
    user_vectors: torch.Tensor,
    item_vectors: torch.Tensor,
    n_layers: int,
    *,
    layer_zero: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute `propagate` layer by layer with torch's sparse product: the oracle of the kernel."""
    shape = (len(user_vectors), len(item_vectors))
    to_users = _sparse(graph[:3], shape).to(user_vectors.dtype)
    to_items = _sparse(graph[3:], shape[::-1]).to(user_vectors.dtype)
    users, items = user_vectors, item_vectors
    user_sum, item_sum = layer_zero * users, layer_zero * items
    for _ in range(n_layers):
        users, items = to_users @ items, to_items @ users
        user_sum, item_sum = user_sum + users, item_sum + items
    return user_sum / (n_layers + layer_zero), item_sum / (n_layers + layer_zero)


def _sparse(half: tuple[torch.Tensor, ...], shape: tuple[int, int]) -> torch.Tensor:
    indptr, indices, weights = half
    return torch.sparse_csr_tensor(indptr, indices.long(), weights, shape, check_invariants=True)


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
        users, items = grads
        return None, *_horner(ctx.graph, users, items, ctx.n_layers, ctx.layer_zero), None, None


def _horner(
    graph: BipartiteGraph,
    users: torch.Tensor,
    items: torch.Tensor,
    n_layers: int,
    layer_zero: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    from contrarec.kernels.cpu import propagate as cpu

    to_users = [tensor.numpy() for tensor in graph[:3]]
    to_items = [tensor.numpy() for tensor in graph[3:]]
    base_users = users.detach().contiguous().numpy()
    base_items = items.detach().contiguous().numpy()
    x_users, x_items = base_users, base_items
    for layer in range(1, n_layers + 1):
        last = layer == n_layers
        scale = base_users.dtype.type(1.0 / (n_layers + layer_zero) if last else 1.0)
        if last and not layer_zero:
            base_users, base_items = np.zeros_like(base_users), np.zeros_like(base_items)
        next_users, next_items = np.empty_like(base_users), np.empty_like(base_items)
        cpu.add_product(*to_users, x_items, base_users, scale, next_users)
        cpu.add_product(*to_items, x_users, base_items, scale, next_items)
        x_users, x_items = next_users, next_items
    return torch.from_numpy(x_users), torch.from_numpy(x_items)
