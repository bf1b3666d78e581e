"""The sampler on a GPU: the same counter-based numbers as `contrarec.kernels.draws`, bit for bit.

One program draws one row of the batch. The log stays on the device; nothing is copied per batch.
"""

import torch
import triton
import triton.language as tl

from contrarec.kernels.gpu.rows import row_of

_ROUNDS = tl.constexpr(6)  # all constants as in the other twins
_GOLDEN = tl.constexpr(0x9E3779B97F4A7C15)
_MIX_1 = tl.constexpr(0xBF58476D1CE4E5B9)
_MIX_2 = tl.constexpr(0x94D049BB133111EB)
_TO_UNIT = tl.constexpr(2.0**-53)


def draw_batch(
    indptr: torch.Tensor,
    indices: torch.Tensor,
    active_users: torch.Tensor,
    rows: range,
    *,
    n_items: int,
    n_neg: int,
    by_user: bool,
    key: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw what `contrarec.kernels.draws.draw_batch` draws, from and into tensors on the device.

    Args:
        indptr: `[n_users + 1]` int64.
        indices: `[nnz]` int32.
        active_users: int64.
        rows: as there.
        n_items: as there.
        n_neg: as there.
        by_user: as there.
        key: as there.

    Returns:
        `users [B]` and `items [B, 1 + n_neg]`, int64.
    """
    users = indptr.new_empty(len(rows), dtype=torch.int64)
    items = indptr.new_empty(len(rows), 1 + n_neg, dtype=torch.int64)
    half = max(1, ((len(indices) - 1).bit_length() + 1) // 2)
    width = min(1024, max(16, triton.next_power_of_2(n_neg)))
    with torch.cuda.device_of(indptr):  # type: ignore[no-untyped-call]
        _draw[(len(rows),)](
            indptr, indices, active_users, users, items, rows.start, key, half,
            len(indptr) - 1, len(indices), len(active_users), n_items, n_neg,
            BY_USER=by_user, BLOCK=width, num_warps=max(1, width // 64),
        )  # fmt: skip
    return users, items


@triton.jit
def _mix(x):  # type: ignore[no-untyped-def]
    x = (x ^ (x >> 30)) * _MIX_1
    x = (x ^ (x >> 27)) * _MIX_2
    return x ^ (x >> 31)


@triton.jit
def _below(x, n):  # type: ignore[no-untyped-def]
    return ((x >> 11).to(tl.float64) * _TO_UNIT * n.to(tl.float64)).to(tl.int64)


@triton.jit
def _shuffle(x, half, key):  # type: ignore[no-untyped-def]
    # one pass of the Feistel network over numbers of 2 * half bits
    mask = (tl.full([], 1, tl.uint64) << half) - 1
    left, right = x >> half, x & mask
    for r in range(_ROUNDS):
        salt = _mix(key + tl.cast(r, tl.uint64))
        left, right = right, left ^ (_mix(right + salt) & mask)
    return (left << half) | right


@triton.jit(do_not_specialize=["first_row", "key"])
def _draw(  # type: ignore[no-untyped-def]
    indptr, indices, active, users, items, first_row, key: tl.uint64, half,
    n_users, nnz, n_active, n_items, n_neg, BY_USER: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0).to(tl.int64)
    key = tl.cast(key, tl.uint64)
    half = tl.cast(half, tl.uint64)
    row = (b + first_row).to(tl.uint64)
    row_key = _mix(row * _GOLDEN + key)
    place = _shuffle(row, half, key)
    while place >= tl.cast(nnz, tl.uint64):  # outside the epoch: permute again
        place = _shuffle(place, half, key)
    place = place.to(tl.int64)
    if BY_USER:
        user = tl.load(active + place % n_active).to(tl.int64)
        start, end = tl.load(indptr + user), tl.load(indptr + user + 1)
        place = start + _below(_mix(row_key), end - start)
    else:
        user = row_of(indptr, n_users, place)
        start, end = tl.load(indptr + user), tl.load(indptr + user + 1)
    tl.store(users + b, user)
    target = items + b * (n_neg + 1)
    tl.store(target, tl.load(indices + place).to(tl.int64))
    for first in range(1, n_neg + 1, BLOCK):
        j = first + tl.arange(0, BLOCK)
        rank = _below(_mix(row_key + j.to(tl.uint64) * _GOLDEN), n_items - (end - start))
        # the item of a rank is the rank plus the number of history items at or below it
        low = tl.zeros([BLOCK], tl.int64)
        high = low + (end - start)
        left = end - start  # no search is longer
        while left > 0:
            middle = (low + high) // 2
            searching = low < high
            gap = tl.load(indices + start + middle, mask=searching, other=0) - middle
            low = tl.where(searching & (gap <= rank), middle + 1, low)
            high = tl.where(searching & (gap > rank), middle, high)
            left = left // 2
        tl.store(target + j, rank + low, mask=j <= n_neg)
