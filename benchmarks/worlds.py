"""Interaction logs of any size, made in memory proportional to the interactions."""

import numpy as np


def histories(
    n_users: int, n_items: int, n_interactions: int, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw distinct (user, item) pairs: users alike, popular items among the lower numbers.

    The chance of an item falls as `1 / √rank`.

    Args:
        n_users: rows.
        n_items: columns.
        n_interactions: pairs, exactly so many; not close to all there are.
        seed: of the draw.

    Returns:
        `indptr [n_users + 1]` int64 and `indices [n_interactions]` int32, ascending in each row.
    """
    rng = np.random.default_rng(seed)
    keys = np.empty(0, np.int64)
    while len(keys) < n_interactions:
        n = n_interactions + n_interactions // 50 + 100
        items = (rng.random(n) ** 2 * n_items).astype(np.int64)
        keys = np.unique(np.concatenate([keys, rng.integers(0, n_users, n) * n_items + items]))
    if len(keys) > n_interactions:
        dropped = rng.choice(len(keys), len(keys) - n_interactions, replace=False)
        keys = np.delete(keys, dropped)
    rows, indices = np.divmod(keys, n_items)
    indptr = np.zeros(n_users + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=n_users), out=indptr[1:])
    return indptr, indices.astype(np.int32)
