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

from contrarec.kernels.dispatch import Backend, resolve

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # the increments and multipliers of SplitMix64
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
S11, S27, S30, S31 = np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31)
ONE = np.uint64(1)
TO_UNIT = 2.0**-53
ROUNDS = 6  # of the Feistel network; four pass for random, two more cost next to nothing


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
    if resolve(backend) == "numba":
        from contrarec.kernels.cpu import draws as cpu

        draw = cpu.draw_batch
    else:
        draw = _draw_batch_reference
    draw(indptr, indices, active_users, rows.start, n_items, by_user, np.uint64(key), users, items)
    return users, items


def draw_block(
    indptr: np.ndarray,
    indices: np.ndarray,
    active_users: np.ndarray,
    rows: range,
    *,
    first_row: int,
    nnz: int,
    first_active: int,
    n_active: int,
    n_items: int,
    n_neg: int,
    by_user: bool,
    key: int,
    backend: Backend = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """Draw those of `draw_batch`'s rows whose user is in a block of consecutive users.

    The rows come in the same order, with the same items; users are counted from the block's first.

    Args:
        indptr: `[n_users + 1]`, of the block.
        indices: the block's items.
        active_users: the block's users with a history.
        rows: which rows of the epoch of the whole log.
        first_row: interactions before the block.
        nnz: interactions of the whole log.
        first_active: users with a history before the block.
        n_active: users with a history in the whole log.
        n_items: as in `draw_batch`.
        n_neg: as there.
        by_user: as there.
        key: as there.
        backend: as there.

    Returns:
        `users [b]` and `items [b, 1 + n_neg]`, int64, with b at most `len(rows)`, possibly 0.
    """
    compiled = resolve(backend) == "numba"
    if compiled:
        from contrarec.kernels.cpu import draws as cpu

        places = np.empty(len(rows), np.int64)
        cpu.permute_rows(rows.start, nnz, np.uint64(key), places)
    else:
        with np.errstate(over="ignore"):
            places = _permute_array(np.arange(rows.start, rows.stop), nnz, np.uint64(key))
    places = places % n_active - first_active if by_user else places - first_row
    own = np.flatnonzero((places >= 0) & (places < len(active_users if by_user else indices)))
    users = np.empty(len(own), np.int64)
    items = np.empty((len(own), 1 + n_neg), np.int64)
    draw = cpu.draw_rows if compiled else _draw_rows_reference
    draw(
        indptr, indices, active_users, rows.start + own, places[own], n_items, by_user,
        np.uint64(key), users, items,
    )  # fmt: skip
    return users, items


def _mix_array(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> S30)) * MIX_1
    x = (x ^ (x >> S27)) * MIX_2
    mixed: np.ndarray = x ^ (x >> S31)
    return mixed


def _below_array(x: np.ndarray, n: np.ndarray | int) -> np.ndarray:
    below: np.ndarray = ((x >> S11).astype(np.float64) * TO_UNIT * n).astype(np.int64)
    return below


def _permute_array(x: np.ndarray, n: int, key: np.uint64) -> np.ndarray:
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    mask = (ONE << half) - ONE
    out = x.astype(np.uint64)
    todo = np.ones(len(out), bool)
    while todo.any():  # cycle walking: values outside the domain are permuted again
        left, right = out[todo] >> half, out[todo] & mask
        for r in range(ROUNDS):
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
    row = np.arange(first_row, first_row + len(users))
    with np.errstate(over="ignore"):  # hashes are meant to wrap around
        place = _permute_array(row, len(indices), key)
    place = place % len(active_users) if by_user else place
    _draw_rows_reference(
        indptr, indices, active_users, row, place, n_items, by_user, key, users, items
    )


def _draw_rows_reference(
    indptr: np.ndarray,
    indices: np.ndarray,
    active_users: np.ndarray,
    row: np.ndarray,
    place: np.ndarray,
    n_items: int,
    by_user: bool,
    key: np.uint64,
    users: np.ndarray,
    items: np.ndarray,
) -> None:
    with np.errstate(over="ignore"):
        row_key = _mix_array(row.astype(np.uint64) * GOLDEN + key)
        if by_user:
            users[:] = active_users[place]
            history = indptr[users + 1] - indptr[users]
            items[:, 0] = indices[indptr[users] + _below_array(_mix_array(row_key), history)]
        else:
            users[:] = np.searchsorted(indptr, place, side="right") - 1
            items[:, 0] = indices[place]
        for b, u in enumerate(users):
            history = indices[indptr[u] : indptr[u + 1]]
            position = np.arange(1, items.shape[1], dtype=np.uint64)
            rank = _below_array(_mix_array(row_key[b] + position * GOLDEN), n_items - len(history))
            # the item of a rank is the rank plus the number of history items at or below it
            gaps = history - np.arange(len(history))
            items[b, 1:] = rank + np.searchsorted(gaps, rank, side="right")
