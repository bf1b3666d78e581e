"""Exact negatives a second and core."""

from collections.abc import Callable, Iterator

import numpy as np

import contrarec as cr
from benchmarks.record import Row, ensure, single
from benchmarks.worlds import histories
from contrarec.kernels.draws import draw_batch

WHAT = "sampler: exact negatives"
N_NEG = 128

Drawn = tuple[np.ndarray, np.ndarray]


def rows(
    *,
    short: bool,
    threads: int,
    n_users: int = 100_000,
    n_items: int = 42_000,
    n_interactions: int = 10_000_000,
) -> Iterator[Row]:
    """Yield the rate on one core; before, draws are checked, also between one and two threads."""
    indptr, indices = histories(n_users, n_items, n_interactions)
    active = np.flatnonzero(np.diff(indptr))

    def draw(n: int) -> Drawn:
        return draw_batch(
            indptr, indices, active, range(n), n_items=n_items, n_neg=N_NEG, by_user=False, key=1
        )

    try:
        _check(draw, indptr, indices, n_items)
        cr.set_threads(1)
        batch = min(n_interactions, 8192)
        timed = single(lambda: draw(batch), 5 if short else 15)
    finally:
        cr.set_threads(threads)
    yield {
        "what": WHAT,
        "shape": f"{n_items:,} items, {n_interactions:,} interactions",
        "threads": 1,
        "rate": batch * N_NEG / timed["seconds"],
    } | timed


def _check(
    draw: Callable[[int], Drawn], indptr: np.ndarray, indices: np.ndarray, n_items: int
) -> None:
    n = min(len(indices), 256)
    cr.set_threads(1)
    users, items = draw(n)
    cr.set_threads(2)
    again = draw(n)
    same = np.array_equal(users, again[0]) and np.array_equal(items, again[1])
    ensure(same, "one and two threads drew different batches")
    for u, row in zip(users, items, strict=True):
        history = indices[indptr[u] : indptr[u + 1]]
        ensure(row[0] in history, f"positive {row[0]} is not in the history of user {u}")
        ensure(not np.isin(row[1:], history).any(), f"a negative is in the history of user {u}")
    low, high = items.min(), items.max()
    ensure(low >= 0 and high < n_items, f"items from {low} to {high} of {n_items}")
