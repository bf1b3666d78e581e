"""LightGCN's propagation, two layers, forward and backward.

Each row compares with what the kernel did without one of its parts, timed alternately in this
process; what was tried and left out is in `docs/results/propagation-experiments.json`.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from contrarec.data.dataset import Dataset
from contrarec.kernels.propagate import (
    BipartiteGraph,
    bipartite_graph,
    propagate,
    propagate_reference,
)

Row = dict[str, Any]
Step = Callable[[], tuple[torch.Tensor, ...]]

BATCH = 2048  # users that a training step reads


def rows(data: Path | None = None, *, short: bool) -> Iterator[Row]:
    """Yield one row a graph and comparison.

    Args:
        data: folder with `yahoo-r3/` and `tencent-lite/`; None leaves them out.
        short: leave out the 20 million interactions, and repeat less.
    """
    graphs = {"Zipf, 1 million": lambda: zipf(50_000, 10_000, 1_000_000)}
    if not short:
        graphs["Zipf, 20 million"] = lambda: zipf(1_000_000, 200_000, 20_000_000)
    if data:
        graphs |= {n: lambda n=n: _real(data / n) for n in ("yahoo-r3", "tencent-lite")}
    for name, make in graphs.items():
        graph = bipartite_graph(*make())
        yield from _compare(name, graph, repeats=3 if short else 7)


def zipf(
    n_users: int, n_items: int, n_draws: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, int]:
    """Draw a graph: log-normal users, items by rank^−0.9 in random order, repetitions collapsed.

    Returns:
        `indptr`, `indices` and the number of items, as `bipartite_graph` takes them.
    """
    rng = np.random.default_rng(seed)
    active = rng.lognormal(size=n_users)
    lengths = 1 + rng.poisson(active / active.sum() * n_draws)
    chances = np.cumsum(np.arange(1, n_items + 1) ** -0.9)
    ranks = np.searchsorted(chances, rng.random(lengths.sum()) * chances[-1])
    items = rng.permutation(n_items)[ranks]
    pairs = np.unique(np.repeat(np.arange(n_users), lengths) * n_items + items)
    indptr = np.concatenate([[0], np.bincount(pairs // n_items, minlength=n_users).cumsum()])
    return indptr, (pairs % n_items).astype(np.int32), n_items


def _real(folder: Path) -> tuple[np.ndarray, np.ndarray, int]:
    train = Dataset.load(folder).train
    return train.indptr, train.indices, train.n_items


def _compare(name: str, graph: BipartiteGraph, repeats: int) -> Iterator[Row]:
    n_users, n_items = len(graph.user_indptr) - 1, len(graph.item_indptr) - 1
    generator = torch.Generator().manual_seed(0)
    U, V = (torch.randn(n, 64, generator=generator).requires_grad_() for n in (n_users, n_items))
    users = torch.randint(n_users, (BATCH,), generator=generator)
    grads = [torch.zeros(n_users, 64), torch.randn(n_items, 64, generator=generator)]
    grads[0][users] = torch.randn(BATCH, 64, generator=generator)

    def step(**options: object) -> tuple[torch.Tensor, ...]:
        out = propagate(graph, U, V, 2, **options)
        return (*out, *torch.autograd.grad(out, (U, V), grads))

    def everyone() -> tuple[torch.Tensor, ...]:
        return step()

    def named() -> tuple[torch.Tensor, ...]:
        return step(users=users)

    def torch_forward() -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            return propagate_reference(graph, U, V, 2)

    def forward() -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            return propagate(graph, U, V, 2)

    for got, want in zip(forward(), torch_forward(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    whole, part = everyone(), named()
    torch.testing.assert_close(part[0][users], whole[0][users], rtol=1e-4, atol=1e-4)
    for got, want in zip(part[1:], whole[1:], strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    edges = len(graph.user_items)
    shape = f"{name}: {n_users} × {n_items}, {edges} interactions, dim 64"
    yield {"what": "LightGCN forward", "other": "torch's sparse product", "shape": shape} | _pair(
        forward, torch_forward, repeats
    )
    row = _pair(named, everyone, repeats)
    yield {
        "what": f"LightGCN step, {BATCH} users named",
        "other": "every user's row",
        "shape": shape,
        "rate": edges / row["seconds"],  # interactions propagated a second
    } | row


def _pair(ours: Step, theirs: Step, repeats: int) -> Row:
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for function, spent in zip((ours, theirs), seconds, strict=True):
            start = time.perf_counter()
            function()
            spent.append(time.perf_counter() - start)
    a, b = seconds
    return {
        "seconds": statistics.median(a),
        "spread": max(a) - min(a),
        "other_seconds": statistics.median(b),
        "ratio": statistics.median(y / x for x, y in zip(a, b, strict=True)),
    }
