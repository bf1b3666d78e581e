"""Grouping positions by key, as compressed rows: what turns scattered sums into one sum per row.

`group_rows` gives every key a group, for matrices; `group_positions` only the keys that occur, for
batches: its work and memory depend on the number of positions, not on the size of a table.
"""

from typing import NamedTuple

import numpy as np

from contrarec.kernels.dispatch import njit_serial

CHUNKS = 64
"""Work items per parallel loop: enough to balance rows of unequal length."""

_DIGIT_BITS = 11  # 2048 counters stay in the first-level cache
_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


class Groups(NamedTuple):
    """Positions grouped by key; group g holds `order[offsets[g]:offsets[g + 1]]`, ascending."""

    rows: np.ndarray  # [G] int64, the keys that occur, ascending
    offsets: np.ndarray  # [G + 1] int64
    order: np.ndarray  # [P] int32
    member: np.ndarray  # [P] int32, the group of each position


def group_positions(keys: np.ndarray, n_groups: int) -> Groups:
    """Group positions by key with a stable radix sort.

    Args:
        keys: `[P]`, integers in `[0, n_groups)`; P and `n_groups` below 2^31.
        n_groups: how many keys there could be.

    >>> groups = group_positions(np.array([7, 2, 7]), 9)
    >>> groups.rows, groups.offsets, groups.order
    (array([2, 7]), array([0, 1, 3]), array([1, 0, 2], dtype=int32))
    """
    size = len(keys)
    bits = max(1, (n_groups - 1).bit_length())
    n_passes = -(-bits // _DIGIT_BITS)
    rows, offsets = np.empty(size, np.int64), np.empty(size + 1, np.int64)
    order, member = np.empty(size, np.int32), np.empty(size, np.int32)
    n_rows = _sort(keys, n_passes, -(-bits // n_passes), rows, offsets, order, member)
    return Groups(rows[:n_rows], offsets[: n_rows + 1], order, member)


def group_rows(keys: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Group positions by key with a stable counting sort, a group for every possible key.

    Args:
        keys: `[P]`, integers in `[0, n_groups)`.
        n_groups: number of groups.

    Returns:
        `offsets [n_groups + 1]` and `order [P]`: group `g` holds the positions
        `order[offsets[g]:offsets[g + 1]]`, ascending.
    """
    offsets = np.zeros(n_groups + 1, np.int64)
    order = np.empty(len(keys), np.int32)
    _counting_sort(keys, offsets, order)
    return offsets, order


@njit_serial
def balanced_bound(offsets, chunk, n_chunks):  # type: ignore[no-untyped-def]
    """Find where chunk `chunk` of `n_chunks` starts, so that all hold about equal work.

    Work is the number of positions plus the number of groups; popular items must not pile up.
    """
    n_groups = len(offsets) - 1
    target = (offsets[n_groups] + n_groups) * chunk // n_chunks
    low, high = 0, n_groups
    while low < high:
        middle = (low + high) // 2
        if offsets[middle] + middle < target:
            low = middle + 1
        else:
            high = middle
    return low


@njit_serial
def _sort(keys, n_passes, digit_bits, rows, offsets, order, member):  # type: ignore[no-untyped-def]
    # Key above, position below: one word moves through passes over digits of the key, lowest first.
    size = len(keys)
    n_digits = 1 << digit_bits
    mask = np.uint64(n_digits - 1)
    words, spare = np.empty(size, np.uint64), np.empty(size, np.uint64)
    for p in range(size):
        words[p] = (np.uint64(keys[p]) << _HALF) | np.uint64(p)
    for number in range(n_passes):
        shift = _HALF + np.uint64(number * digit_bits)
        start = np.zeros(n_digits + 1, np.int64)
        for p in range(size):
            start[np.int64((words[p] >> shift) & mask) + 1] += 1
        for digit in range(n_digits):
            start[digit + 1] += start[digit]
        for p in range(size):
            bucket = np.int64((words[p] >> shift) & mask)
            spare[start[bucket]] = words[p]
            start[bucket] += 1
        words, spare = spare, words
    g = -1
    for p in range(size):
        key, position = np.int64(words[p] >> _HALF), np.int64(words[p] & _LOW)
        if g < 0 or key != rows[g]:
            g += 1
            rows[g] = key
            offsets[g] = p
        order[p] = position
        member[position] = g
    offsets[g + 1] = size
    return g + 1


@njit_serial
def _counting_sort(keys, offsets, order):  # type: ignore[no-untyped-def]
    for p in range(len(keys)):
        offsets[keys[p] + 1] += 1
    for g in range(len(offsets) - 1):
        offsets[g + 1] += offsets[g]
    cursor = offsets[:-1].copy()
    for p in range(len(keys)):
        g = keys[p]
        order[cursor[g]] = p
        cursor[g] += 1
