"""Compressed sparse rows from pairs that come in batches, and a table from keys to places.

Nothing here allocates more than a few bytes per row: pairs are written where they belong, rows are
sorted and repeated pairs collapsed in place.
"""

import numpy as np

from contrarec.kernels.cpu.compile import njit, njit_serial, prange
from contrarec.kernels.cpu.grouping import CHUNKS, balanced_bound

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # spreads keys that follow one another over the table


@njit_serial
def place_pairs(users, items, time, weight, ends, cursor, indices, times, weights):  # type: ignore[no-untyped-def]
    """Write each pair to the next free place of its user's row; False if a row is full already.

    `cursor[u]` is that place and moves on, `ends[u]` the first one behind the row. `times` and
    `weights` are filled from `time` and `weight`, unless they are empty.
    """
    for p in range(len(users)):
        u = users[p]
        q = cursor[u]
        if q == ends[u]:
            return False
        cursor[u] = q + 1
        indices[q] = items[p]
        if len(times):
            times[q] = time[p]
        if len(weights):
            weights[q] = weight[p]
    return True


@njit
def settle_rows(indptr, indices, times, weights, kept):  # type: ignore[no-untyped-def]
    """Sort each row by item and collapse repeated pairs to its front; `kept[r]` are left there.

    A repeated pair keeps its last time and the sum of its weights, in the order they came in.
    """
    for c in prange(CHUNKS):
        for r in range(balanced_bound(indptr, c, CHUNKS), balanced_bound(indptr, c + 1, CHUNKS)):
            kept[r] = _settle_row(indptr[r], indptr[r + 1], indices, times, weights)


@njit_serial
def _settle_row(first, end, indices, times, weights):  # type: ignore[no-untyped-def]
    q = first + 1
    while q < end and indices[q - 1] < indices[q]:
        q += 1
    if q >= end:
        return end - first
    if len(times) or len(weights):
        order = np.argsort(indices[first:end], kind="mergesort")  # stable
        indices[first:end] = indices[first:end][order]
        if len(times):
            times[first:end] = times[first:end][order]
        if len(weights):
            weights[first:end] = weights[first:end][order]
    else:
        indices[first:end].sort()
    last = first
    for q in range(first + 1, end):
        if indices[q] != indices[last]:
            last += 1
            indices[last] = indices[q]
            if len(times):
                times[last] = times[q]
            if len(weights):
                weights[last] = weights[q]
            continue
        if len(times):
            times[last] = max(times[last], times[q])
        if len(weights):
            weights[last] += weights[q]
    return last + 1 - first


@njit_serial
def close_gaps(indptr, kept, indices, times, weights):  # type: ignore[no-untyped-def]
    """Move the first `kept[r]` entries of each row behind those of the row before."""
    n = 0
    for r in range(len(kept)):
        first = indptr[r]
        indptr[r] = n
        for q in range(first, first + kept[r]):
            indices[n] = indices[q]
            if len(times):
                times[n] = times[q]
            if len(weights):
                weights[n] = weights[q]
            n += 1
    indptr[len(kept)] = n


@njit_serial
def fill_table(keys, table):  # type: ignore[no-untyped-def]
    """Enter distinct uint64 keys into a table of places, all -1 before.

    Its size is a power of two above the number of keys; open addressing, the keys stay outside.
    """
    mask = np.uint64(len(table) - 1)
    for j in range(len(keys)):
        slot = _slot(keys[j], mask)
        while table[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        table[slot] = j


@njit
def find_keys(wanted, keys, table, places):  # type: ignore[no-untyped-def]
    """Look up where each wanted key stands in `keys`; -1 for one that is not there."""
    mask = np.uint64(len(table) - 1)
    for p in prange(len(wanted)):
        slot = _slot(wanted[p], mask)
        while table[slot] >= 0 and keys[table[slot]] != wanted[p]:
            slot = (slot + np.uint64(1)) & mask
        places[p] = table[slot]


@njit_serial
def _slot(key, mask):  # type: ignore[no-untyped-def]
    return ((key * _GOLDEN) >> np.uint64(20)) & mask
