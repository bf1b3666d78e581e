"""LightGCN's propagation, two layers, forward and backward, against torch's sparse product.

What was tried and left out stands in `docs/results/propagation-experiments.json`.
"""

from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.record import Row, pair
from benchmarks.worlds import histories
from contrarec.data.dataset import Dataset
from contrarec.kernels.propagate import (
    BipartiteGraph,
    bipartite_graph,
    propagate,
    propagate_reference,
)

WHAT = "propagation: LightGCN, 2 layers, forward and backward"
SIZES = ((50_000, 10_000, 1_000_000), (1_000_000, 200_000, 20_000_000))


def rows(data: Path | None, *, short: bool) -> Iterator[Row]:
    """Yield a row for each graph: generated ones, and those of the data sets that are there."""
    repeats = 3 if short else 7
    for n_users, n_items, n_edges in SIZES[:1] if short else SIZES:
        graph = bipartite_graph(*histories(n_users, n_items, n_edges), n_items)
        yield _row("generated", graph, repeats)
    for name in ("yahoo-r3", "tencent-lite"):
        if data is not None and (data / name).is_dir():
            train = Dataset.load(data / name).train
            graph = bipartite_graph(train.indptr, train.indices, train.n_items)
            yield _row(name, graph, repeats)


def _row(name: str, graph: BipartiteGraph, repeats: int) -> Row:
    n_users, n_items = len(graph.user_indptr) - 1, len(graph.item_indptr) - 1
    g = torch.Generator().manual_seed(0)
    tables = [torch.randn(n, 64, generator=g).requires_grad_() for n in (n_users, n_items)]
    grads = [torch.randn(n, 64, generator=g) for n in (n_users, n_items)]

    def ours() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(propagate(graph, *tables, 2), tables, grads)

    def theirs() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(propagate_reference(graph, *tables, 2), tables, grads)

    for got, want in zip(ours(), theirs(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    shape = f"{name}: {n_users:,} × {n_items:,}, {len(graph.user_items):,} interactions, dim 64"
    return {"what": WHAT, "shape": shape, "other": "torch's sparse product"} | pair(
        ours, theirs, repeats
    )
