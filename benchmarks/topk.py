"""Full ranking against the bare matrix product of the same blocks, and what evaluation adds."""

import resource
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch

from contrarec.data.dataset import TestSet
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.evaluation.protocol import evaluate
from contrarec.evaluation.ranking import default_block_size, dot_scorer, top_k
from contrarec.kernels.dispatch import set_threads

Row = dict[str, object]


def rows(
    repeats: int = 5,
    n_users: int = 95_000,
    n_items: int = 42_000,
    dim: int = 64,
    history: int = 100,
    k: int = 20,
    threads: tuple[int, ...] = (1, 2),
) -> Iterator[Row]:
    """Time top-k with history masked against two bare products, and `evaluate` against top-k."""
    g, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    U, V = torch.randn(n_users, dim, generator=g), torch.randn(n_items, dim, generator=g)
    users = np.arange(n_users)
    mask, truth = (_random(rng, n_users, n_items, n) for n in (history, 10))
    scorer, block = dot_scorer(U, V), default_block_size(n_items)
    large = min(n_users, (1 << 30) // (4 * n_items))  # a product of up to 1 GiB

    def ranking() -> object:
        return top_k(scorer, users, k, n_items=n_items, mask=mask)

    def product(size: int) -> Callable[[], object]:
        def run() -> None:
            for part in U.split(size):
                torch.mm(part, V.T)

        return run

    few = users[:50]
    items, _ = top_k(scorer, few, k, n_items=n_items, mask=mask)
    for user, row in zip(few, items, strict=True):
        score = (U[user] @ V.T).numpy()
        score[mask.indices[mask.indptr[user] : mask.indptr[user + 1]]] = -np.inf
        best = np.sort(score)[::-1][:k]
        if len(set(row.tolist())) < k or not np.allclose(score[row], best, rtol=1e-4, atol=1e-4):
            raise RuntimeError(f"top-k ranked user {user} wrongly")

    test = TestSet(name="test", truth=truth, mask=mask)
    counts = np.bincount(mask.indices, minlength=n_items)

    def whole() -> object:
        return evaluate(scorer, test, (10, k), bootstrap=1000, groups=True, item_counts=counts)

    shape = f"{n_users} × {n_items}, dim {dim}, k {k}"
    for n in threads:
        set_threads(n)
        yield _pair(f"top-k against its product in blocks, threads {n}", shape, ranking,
                    product(block), repeats)  # fmt: skip
        yield _pair(f"top-k against its product at once, threads {n}", shape, ranking,
                    product(large), repeats)  # fmt: skip
        yield _pair(f"evaluation against top-k, threads {n}", shape, whole, ranking, repeats)


def _random(rng: np.random.Generator, n_users: int, n_items: int, per_user: int) -> Interactions:
    pairs = np.unique(
        np.repeat(np.arange(n_users), per_user) * n_items
        + rng.integers(0, n_items, n_users * per_user)
    )
    return Interactions.from_pairs(
        pairs // n_items, pairs % n_items,
        users=Vocabulary.of(range(n_users)), items=Vocabulary.of(range(n_items)),
    )  # fmt: skip


def _pair(
    what: str, shape: str, ours: Callable[[], object], other: Callable[[], object], repeats: int
) -> Row:
    """Time both alternately; `ratio` is the median of other's time over ours."""
    seconds: list[tuple[float, float]] = []
    for _ in range(repeats + 1):
        marks = [time.perf_counter()]
        for function in (ours, other):
            function()
            marks.append(time.perf_counter())
        seconds.append((marks[1] - marks[0], marks[2] - marks[1]))
    a, b = zip(*seconds[1:], strict=True)  # the first round warms up
    return {
        "what": what,
        "shape": shape,
        "seconds": statistics.median(a),
        "spread": max(a) - min(a),
        "other_seconds": statistics.median(b),
        "ratio": statistics.median(y / x for x, y in zip(a, b, strict=True)),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


if __name__ == "__main__":
    for row in rows():
        print(row, flush=True)
