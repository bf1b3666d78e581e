"""The largest part of a log in which every user has enough items and every item enough users."""

import numpy as np

from contrarec.data.interactions import Interactions
from contrarec.data.rows import offsets


def k_core(log: Interactions, *, per_user: int, per_item: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the (per_user, per_item)-core of the graph between users and items.

    Whoever has too few neighbours goes, and then whoever has too few without them, until nobody
    does. What is left does not depend on the order. Every pair is looked at once from either side,
    so that time is that of sorting the pairs, however many rounds it takes.

    Args:
        log: the pairs.
        per_user: how many of the remaining items a user must have.
        per_item: how many of the remaining users an item must have.

    Returns:
        Who is left: bool `[n_users]` and `[n_items]`.
    """
    by_item = np.argsort(log.indices, kind="stable")
    neighbours = (
        (log.indptr, log.indices),
        (offsets(log.item_counts), log.rows[by_item]),
    )
    degree = (log.user_counts.copy(), log.item_counts.copy())
    need = (per_user, per_item)
    left = (degree[0] >= per_user, degree[1] >= per_item)
    leaving = [np.flatnonzero(~side) for side in left]
    while len(leaving[0]) or len(leaving[1]):
        for side, other in ((0, 1), (1, 0)):
            touched, times = np.unique(_rows(*neighbours[side], leaving[side]), return_counts=True)
            degree[other][touched] -= times
            short = touched[left[other][touched] & (degree[other][touched] < need[other])]
            left[other][short] = False
            leaving[side] = leaving[side][:0]
            leaving[other] = np.concatenate([leaving[other], short])
    return left


def _rows(indptr: np.ndarray, indices: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the entries of some rows of a CSR matrix, one row after the other."""
    counts = indptr[rows + 1] - indptr[rows]
    first = np.repeat(indptr[rows] - offsets(counts)[:-1], counts)
    entries: np.ndarray = indices[first + np.arange(len(first))]
    return entries
