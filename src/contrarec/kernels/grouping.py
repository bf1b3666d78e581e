"""Grouping positions by key, as compressed rows: what turns scattered sums into one sum per row.

`group_rows` gives every key a group, for matrices; `group_positions` only the keys that occur, for
batches: its work and memory depend on the number of positions, not on the size of a table.
"""

from typing import NamedTuple

import numpy as np

from contrarec.kernels.dispatch import HAS_NUMBA

_DIGIT_BITS = 11  # 2048 counters stay in the first-level cache


class Groups(NamedTuple):
    """Positions grouped by key; group g holds `order[offsets[g]:offsets[g + 1]]`, ascending."""

    rows: np.ndarray  # [G] int64, the keys that occur, ascending
    offsets: np.ndarray  # [G + 1] int64
    order: np.ndarray  # [P] int32


def group_positions(keys: np.ndarray, n_groups: int) -> Groups:
    """Group positions by key with a stable sort, for compiled kernels.

    One pass with a counter for each possible key where there are at most as many of them as
    positions; otherwise passes over the digits of the keys.

    Args:
        keys: `[P]`, integers in `[0, n_groups)`; P and `n_groups` below 2^31.
        n_groups: how many keys there could be.

    >>> groups = group_positions(np.array([7, 2, 7]), 9)
    >>> groups.rows, groups.offsets, groups.order
    (array([2, 7]), array([0, 1, 3]), array([1, 0, 2], dtype=int32))
    """
    from contrarec.kernels.cpu import grouping as cpu

    size = len(keys)
    most = min(size, n_groups)
    rows, offsets = np.empty(most, np.int64), np.empty(most + 1, np.int64)
    order = np.empty(size, np.int32)
    if n_groups <= size:
        n_rows = cpu.sort(keys, n_groups, rows, offsets, order)
    else:
        bits = max(1, (n_groups - 1).bit_length())
        n_passes = -(-bits // _DIGIT_BITS)
        n_rows = cpu.radix_sort(keys, n_passes, -(-bits // n_passes), rows, offsets, order)
    return Groups(rows[:n_rows], offsets[: n_rows + 1], order)


def group_rows(keys: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Group positions by key with a stable counting sort, a group for every possible key.

    Args:
        keys: `[P]`, integers in `[0, n_groups)`; P below 2^31.
        n_groups: number of groups.

    Returns:
        `offsets [n_groups + 1]` and `order [P]`: group `g` holds the positions
        `order[offsets[g]:offsets[g + 1]]`, ascending.
    """
    if not HAS_NUMBA:
        counts = np.bincount(keys, minlength=n_groups)
        return np.concatenate([[0], np.cumsum(counts)]), np.argsort(keys, kind="stable")
    from contrarec.kernels.cpu import grouping as cpu

    offsets = np.zeros(n_groups + 1, np.int64)
    order = np.empty(len(keys), np.int32)
    cpu.counting_sort(keys, offsets, order)
    return offsets, order
