"""Random draws of a batch: which interactions, and which negatives for each.

Streams are counter-based: every number is a hash of (key, row, position), where the key stands for
(seed, phase, epoch). No state is carried from draw to draw, so a result depends neither on the
number of threads nor on where a run was interrupted, and any row can be drawn by itself.

The order of an epoch is a pseudo-random permutation (a Feistel network on the row number), which
needs no array of all rows. A negative is drawn without rejection: a user with `h` items of history
leaves `n_items - h` candidates; a rank among them is drawn uniformly and a binary search in the
sorted history turns it into the item of that rank.
"""

import numpy as np

from contrarec.kernels.dispatch import Backend, njit, njit_serial, prange, resolve

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # the increments and multipliers of SplitMix64
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S11, _S27, _S30, _S31 = np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31)
_ONE = np.uint64(1)
_TO_UNIT = 2.0**-53
_SHORT = 256  # histories up to this length are stepped through, which vectorises; or searched
_ROUNDS = 6  # of the Feistel network; four pass for random, two more cost next to nothing


def stream_key(*parts: int) -> int:
    """Hash non-negative integers (seed, phase, epoch, …) into a 64-bit stream key.

    >>> stream_key(0, 1) == stream_key(0, 1), stream_key(0, 1) == stream_key(1, 0)
    (True, False)
    """
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])


def draw_batch(
    indptr: np.ndarray,
    indices: np.ndarray,
    active_users: np.ndarray,
    rows: range,
    *,
    n_items: int,
    n_neg: int,
    by_user: bool,
    key: int,
    backend: Backend = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the rows `rows` of an epoch of `nnz` rows: a user, a positive, its negatives.

    Args:
        indptr: `[n_users + 1]`, where each history starts in `indices`.
        indices: `[nnz]`, the items of the histories, ascending in each.
        active_users: users with a history, ascending.
        rows: which rows of the epoch, within `[0, nnz)`.
        n_items: size of the catalogue; larger than every history.
        n_neg: negatives per row, uniform over the items outside the user's history, with
            replacement.
        by_user: `False` takes each interaction once an epoch; `True` takes each user equally
            often (to within one) and then one of its items uniformly.
        key: the epoch's stream, from `stream_key`.
        backend: `auto`, `reference` or `numba`; all give the same numbers.

    Returns:
        `users [B]` and `items [B, 1 + n_neg]`, int64; the positive is column 0.
    """
    users = np.empty(len(rows), np.int64)
    items = np.empty((len(rows), 1 + n_neg), np.int64)
    draw = _draw_batch if resolve(backend) == "numba" else _draw_batch_reference
    draw(indptr, indices, active_users, rows.start, n_items, by_user, np.uint64(key), users, items)
    return users, items


def _mix_array(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> _S30)) * _MIX_1
    x = (x ^ (x >> _S27)) * _MIX_2
    mixed: np.ndarray = x ^ (x >> _S31)
    return mixed


def _below_array(x: np.ndarray, n: np.ndarray | int) -> np.ndarray:
    below: np.ndarray = ((x >> _S11).astype(np.float64) * _TO_UNIT * n).astype(np.int64)
    return below


def _permute_array(x: np.ndarray, n: int, key: np.uint64) -> np.ndarray:
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    mask = (_ONE << half) - _ONE
    out = x.astype(np.uint64)
    todo = np.ones(len(out), bool)
    while todo.any():  # cycle walking: values outside the domain are permuted again
        left, right = out[todo] >> half, out[todo] & mask
        for r in range(_ROUNDS):
            salt = _mix_array(np.array([key + np.uint64(r)], np.uint64))
            left, right = right, left ^ (_mix_array(right + salt) & mask)
        out[todo] = (left << half) | right
        todo = out >= np.uint64(n)
    return out.astype(np.int64)


def _draw_batch_reference(
    indptr: np.ndarray,
    indices: np.ndarray,
    active_users: np.ndarray,
    first_row: int,
    n_items: int,
    by_user: bool,
    key: np.uint64,
    users: np.ndarray,
    items: np.ndarray,
) -> None:
    with np.errstate(over="ignore"):  # hashes are meant to wrap around
        row = np.arange(first_row, first_row + len(users))
        row_key = _mix_array(row.astype(np.uint64) * _GOLDEN + key)
        place = _permute_array(row, len(indices), key)
        if by_user:
            users[:] = active_users[place % len(active_users)]
            history = indptr[users + 1] - indptr[users]
            items[:, 0] = indices[indptr[users] + _below_array(_mix_array(row_key), history)]
        else:
            users[:] = np.searchsorted(indptr, place, side="right") - 1
            items[:, 0] = indices[place]
        for b, u in enumerate(users):
            history = indices[indptr[u] : indptr[u + 1]]
            position = np.arange(1, items.shape[1], dtype=np.uint64)
            rank = _below_array(_mix_array(row_key[b] + position * _GOLDEN), n_items - len(history))
            # the item of a rank is the rank plus the number of history items at or below it
            gaps = history - np.arange(len(history))
            items[b, 1:] = rank + np.searchsorted(gaps, rank, side="right")


@njit_serial
def _mix(x):  # type: ignore[no-untyped-def]
    x = (x ^ (x >> _S30)) * _MIX_1
    x = (x ^ (x >> _S27)) * _MIX_2
    return x ^ (x >> _S31)


@njit_serial
def _below(x, n):  # type: ignore[no-untyped-def]
    return np.int64(np.float64(x >> _S11) * _TO_UNIT * n)


@njit_serial
def _permute(x, n, half, salts):  # type: ignore[no-untyped-def]
    mask = (_ONE << half) - _ONE
    out = np.uint64(x)
    while True:
        left, right = out >> half, out & mask
        for r in range(_ROUNDS):
            left, right = right, left ^ (_mix(right + salts[r]) & mask)
        out = (left << half) | right
        if out < np.uint64(n):
            return np.int64(out)


@njit
def _draw_batch(  # type: ignore[no-untyped-def]
    indptr, indices, active_users, first_row, n_items, by_user, key, users, items
):
    nnz = len(indices)
    half = np.uint64(1)
    while (_ONE << (half + half)) < np.uint64(nnz):
        half += _ONE
    salts = np.empty(_ROUNDS, np.uint64)
    for r in range(_ROUNDS):
        salts[r] = _mix(key + np.uint64(r))
    for b in prange(len(users)):
        row = first_row + b
        row_key = _mix(np.uint64(row) * _GOLDEN + key)
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
        row_items = items[b]
        for j in range(1, len(row_items)):  # ranks among the items outside the history
            row_items[j] = _below(_mix(row_key + np.uint64(j) * _GOLDEN), free)
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
