"""Measure the hot paths, each checked for correctness before it is timed.

Every figure that compares is a ratio of two things timed alternately in this process; machines are
shared and noisy, so absolute times are only a guide. Rows are appended to a CSV with the commit,
the machine and the versions.

    python benchmarks/run.py --short                      # a minute, what `make bench` runs
    python benchmarks/run.py --data ../shared/data        # with epochs on real data
"""

import argparse
import csv
import datetime
import itertools
import os
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

import contrarec as cr
from contrarec.kernels.draws import draw_batch
from contrarec.kernels.propagate import bipartite_graph, propagate, propagate_reference
from contrarec.kernels.scores import sampled_scores, sampled_scores_reference
from contrarec.training.loop import Hooks

Row = dict[str, object]

COLUMNS = [
    "date", "commit", "machine", "threads", "versions", "peak_mib",
    "what", "shape", "seconds", "spread", "other_seconds", "ratio", "rate",
]  # fmt: skip


def times(function: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each of `repeats` calls, after one that does not count."""
    function()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return seconds


def pair(ours: Callable[[], object], theirs: Callable[[], object], repeats: int) -> Row:
    """Time two functions alternately: medians, and the median of the paired ratios."""
    both = [(times(ours, 3), times(theirs, 1)) for _ in range(repeats)]
    a = [statistics.median(seconds) for seconds, _ in both]
    b = [statistics.median(seconds) for _, seconds in both]
    ratios = [y / x for x, y in zip(a, b, strict=True)]
    return {
        "seconds": statistics.median(a),
        "spread": max(a) - min(a),
        "other_seconds": statistics.median(b),
        "ratio": statistics.median(ratios),
    }


def scores(repeats: int, sizes: list[tuple[int, int, int, int]]) -> Iterator[Row]:
    """`sampled_scores`, forward and backward, against bmm over gathered embeddings."""
    for n_users, n_items, batch, n_neg in sizes:
        g = torch.Generator().manual_seed(0)
        U = torch.randn(n_users, 64, generator=g).requires_grad_()
        V = torch.randn(n_items, 64, generator=g).requires_grad_()
        users = torch.randint(0, n_users, (batch,), generator=g)
        items = torch.randint(0, n_items, (batch, n_neg), generator=g)
        grad = torch.randn(batch, n_neg, generator=g)
        got = sampled_scores(U, V, users, items)
        want = sampled_scores_reference(U, V, users, items)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)

        def ours(U=U, V=V, users=users, items=items, grad=grad):
            torch.autograd.grad(sampled_scores(U, V, users, items), (U, V), grad)

        def bmm(U=U, V=V, users=users, items=items, grad=grad):
            out = torch.bmm(V[items], U[users][:, :, None])[:, :, 0]
            torch.autograd.grad(out, (U, V), grad)

        shape = f"{batch} × {n_neg} of {n_items} items, dim 64"
        yield {"what": "sampled_scores", "shape": shape} | pair(ours, bmm, repeats)


def sampler(repeats: int, n_items: int, n_interactions: int) -> Iterator[Row]:
    """Exact negatives a second and core."""
    rng = np.random.default_rng(0)
    n_users = max(1, n_interactions // 100)
    lengths = rng.multinomial(n_interactions, np.ones(n_users) / n_users)
    indptr = np.concatenate([[0], lengths.cumsum()])
    parts = [np.sort(rng.choice(n_items, n, replace=False)) for n in lengths]
    indices = np.concatenate(parts).astype(np.int32)
    active = np.flatnonzero(lengths)
    options = {"n_items": n_items, "n_neg": 128, "by_user": False, "key": 1}
    users, items = draw_batch(indptr, indices, active, range(256), **options)
    for u, row in zip(users, items, strict=True):
        history = indices[indptr[u] : indptr[u + 1]]
        if row[0] not in history or np.isin(row[1:], history).any():
            raise RuntimeError("the sampler drew a wrong positive or negative")
    cr.set_threads(1)
    seconds = times(lambda: draw_batch(indptr, indices, active, range(4096), **options), repeats)
    yield {
        "what": "negatives per second and core",
        "shape": f"{n_items} items, {n_interactions} interactions",
        "seconds": statistics.median(seconds),
        "spread": max(seconds) - min(seconds),
        "rate": 4096 * 128 / statistics.median(seconds),
    }


def propagation(repeats: int, n_users: int, n_items: int, n_edges: int) -> Iterator[Row]:
    """Two layers of LightGCN against torch's sparse product."""
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, n_users * n_items, n_edges))
    indptr = np.concatenate([[0], np.bincount(pairs // n_items, minlength=n_users).cumsum()])
    graph = bipartite_graph(indptr, (pairs % n_items).astype(np.int32), n_items)
    U, V = torch.randn(n_users, 64), torch.randn(n_items, 64)
    for a, b in zip(propagate(graph, U, V, 2), propagate_reference(graph, U, V, 2), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    yield {
        "what": "LightGCN, 2 layers",
        "shape": f"{n_users} × {n_items}, {len(pairs)} interactions, dim 64",
    } | pair(
        lambda: propagate(graph, U, V, 2), lambda: propagate_reference(graph, U, V, 2), repeats
    )


def training(data: Path) -> Iterator[Row]:
    """Epochs on Yahoo! R3 and a whole run on Coat, with the published settings."""
    coat = cr.Dataset.load(data / "coat")
    rec = cr.Recommender("lightgcn", "advinfonce", preset="coat", device="cpu")
    cr.Recommender("lightgcn", "advinfonce", preset="coat", device="cpu", epochs=40).fit(coat)
    start = time.perf_counter()
    rec.fit(coat)
    yield {
        "what": "Coat to early stop",
        "shape": f"lightgcn advinfonce, {rec.result['epochs']} epochs",
        "seconds": time.perf_counter() - start,
    }
    yahoo = cr.Dataset.load(data / "yahoo-r3")
    for backbone in ("mf", "lightgcn"):
        ends: list[float] = []
        hooks = Hooks(on_epoch=lambda _, ends=ends: ends.append(time.perf_counter()))
        # adversarial passes are due in epochs 2 and 7 (from 0); evaluation only at the end
        cr.Recommender(
            backbone, "advinfonce", preset="yahoo-r3", device="cpu", epochs=12, eval_every=100
        ).fit(yahoo, hooks=hooks)
        seconds = [b - a for a, b in itertools.pairwise(ends[:-1])]  # the last one evaluates
        plain = sorted(seconds)[: len(seconds) - 2]
        yield {
            "what": "Yahoo! R3 epoch",
            "shape": f"{backbone} advinfonce",
            "seconds": statistics.median(plain),
            "spread": max(plain) - min(plain),
        }


def main() -> None:
    """Run the benchmarks and append their rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="small sizes and few repeats")
    parser.add_argument("--data", type=Path, help="folder with coat/ and yahoo-r3/")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.csv")
    arguments = parser.parse_args()
    cr.set_threads(arguments.threads)
    repeats = 3 if arguments.short else 7
    sizes = [(14_382, 1_000, 1024, 64), (95_623, 42_000, 2048, 128)]
    if not arguments.short:
        sizes.append((95_623, 1_000_000, 2048, 128))
    rows = list(scores(repeats, sizes))
    rows += propagation(repeats, 14_382, 1_000, 88_684)
    if arguments.data:
        rows += training(arguments.data)
    rows += sampler(repeats, 42_000, 100_000 if arguments.short else 10_000_000)
    about = {
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": arguments.threads,
        "versions": f"torch {version('torch')}, numba {version('numba')}",
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    _append(arguments.out, [about | row for row in rows])
    for row in rows:
        extra = f", {row['ratio']:.0f} × faster" if "ratio" in row else ""
        extra += f", {row['rate'] / 1e6:.0f} million a second" if "rate" in row else ""
        print(f"{row['what']}: {row['shape']}: {row['seconds'] * 1e3:.2f} ms{extra}")


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _append(path: Path, rows: list[Row]) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
