"""Drawing a batch, compiled."""

import numpy as np

from contrarec.kernels.cpu.compile import njit, njit_serial, prange
from contrarec.kernels.draws import GOLDEN, MIX_1, MIX_2, ONE, ROUNDS, S11, S27, S30, S31, TO_UNIT

_SHORT = 256  # histories up to this length are stepped through, which vectorises; or searched


@njit_serial
def _mix(x):  # type: ignore[no-untyped-def]
    x = (x ^ (x >> S30)) * MIX_1
    x = (x ^ (x >> S27)) * MIX_2
    return x ^ (x >> S31)


@njit_serial
def _below(x, n):  # type: ignore[no-untyped-def]
    return np.int64(np.float64(x >> S11) * TO_UNIT * n)


@njit_serial
def _permute(x, n, half, salts):  # type: ignore[no-untyped-def]
    mask = (ONE << half) - ONE
    out = np.uint64(x)
    while True:
        left, right = out >> half, out & mask
        for r in range(ROUNDS):
            left, right = right, left ^ (_mix(right + salts[r]) & mask)
        out = (left << half) | right
        if out < np.uint64(n):
            return np.int64(out)


@njit
def draw_batch(  # type: ignore[no-untyped-def]
    indptr, indices, active_users, first_row, n_items, by_user, key, users, items
):
    """Write what `contrarec.kernels.draws.draw_batch` draws into `users` and `items`."""
    nnz = len(indices)
    half = np.uint64(1)
    while (ONE << (half + half)) < np.uint64(nnz):
        half += ONE
    salts = np.empty(ROUNDS, np.uint64)
    for r in range(ROUNDS):
        salts[r] = _mix(key + np.uint64(r))
    for b in prange(len(users)):
        row = first_row + b
        row_key = _mix(np.uint64(row) * GOLDEN + key)
        place = _permute(row, nnz, half, salts)
        if by_user:
            u = active_users[place % len(active_users)]
            start, end = indptr[u], indptr[u + 1]
            items[b, 0] = indices[start + _below(_mix(row_key), end - start)]
        else:
            u = np.searchsorted(indptr, place, side="right") - 1
            start, end = indptr[u], indptr[u + 1]
            items[b, 0] = indices[place]
        users[b] = u
        free = n_items - (end - start)
        _draw_negatives(indices, start, end, free, row_key, items[b])


@njit
def draw_rows(  # type: ignore[no-untyped-def]
    indptr, indices, active_users, rows, places, n_items, by_user, key, users, items
):
    """Write what `draw_batch` draws for some rows, whose places among one's own are known."""
    for b in prange(len(rows)):
        row_key = _mix(np.uint64(rows[b]) * GOLDEN + key)
        if by_user:
            u = active_users[places[b]]
            start, end = indptr[u], indptr[u + 1]
            items[b, 0] = indices[start + _below(_mix(row_key), end - start)]
        else:
            u = np.searchsorted(indptr, places[b], side="right") - 1
            start, end = indptr[u], indptr[u + 1]
            items[b, 0] = indices[places[b]]
        users[b] = u
        _draw_negatives(indices, start, end, n_items - (end - start), row_key, items[b])


@njit
def permute_rows(first_row, nnz, key, places):  # type: ignore[no-untyped-def]
    """Write the places of the rows from `first_row` on in an epoch of `nnz` rows."""
    half = np.uint64(1)
    while (ONE << (half + half)) < np.uint64(nnz):
        half += ONE
    salts = np.empty(ROUNDS, np.uint64)
    for r in range(ROUNDS):
        salts[r] = _mix(key + np.uint64(r))
    for b in prange(len(places)):
        places[b] = _permute(first_row + b, nnz, half, salts)


@njit_serial
def _draw_negatives(indices, start, end, free, row_key, row_items):  # type: ignore[no-untyped-def]
    for j in range(1, len(row_items)):  # ranks among the items outside the history
        row_items[j] = _below(_mix(row_key + np.uint64(j) * GOLDEN), free)
    if end - start <= _SHORT:
        for m in range(start, end):  # the item of a rank: step over each history item below it
            for j in range(1, len(row_items)):
                row_items[j] += row_items[j] >= indices[m]
    else:
        for j in range(1, len(row_items)):
            row_items[j] += _below_rank(indices, start, end, row_items[j])


@njit_serial
def _below_rank(indices, start, end, rank):  # type: ignore[no-untyped-def]
    # how many history items lie below the item of a rank; their values less their places ascend
    low, high = start, end
    while low < high:
        middle = (low + high) // 2
        if indices[middle] - (middle - start) <= rank:
            low = middle + 1
        else:
            high = middle
    return low - start
