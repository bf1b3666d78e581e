"""Weighted sums of table rows, by compressed sparse rows: a LightGCN layer, and every gradient.

One program sums one output row. A row of more than `_SPLIT` entries would keep one program busy
while the others are done, so such rows are cut where the index is a multiple of `_SPLIT`: a first
pass sums each window's share of them, a second adds the shares up in order. A window meets at most
two long rows, the one of its first entry and the one of its last.
"""

import torch
import triton
import triton.language as tl

_SPLIT = 128  # entries that one program sums
_TILE = 2048  # elements of the table that a program holds at a time
_EPS = tl.constexpr(1e-12)  # what torch.nn.functional.normalize clamps a norm to


def row_sums(
    offsets: torch.Tensor,
    index: torch.Tensor,
    weights: torch.Tensor,
    x: torch.Tensor,
    *,
    dtype: torch.dtype,
    unit: bool = False,
    base: torch.Tensor | None = None,
    divisor: int = 1,
    tangent: torch.Tensor | None = None,
) -> torch.Tensor:
    """Sum table rows: `out[r] = Σ weights[q] · x[index[q]]`, `offsets[r] ≤ q < offsets[r + 1]`.

    Accumulates in float32, in float64 if `x` is float64. Entries of `index` outside `x` add
    nothing. Memory beside the result: `2 · nnz · dim / 128` numbers.

    Args:
        offsets: `[n_rows + 1]` int64; positions before the first and after the last are left out.
        index: `[nnz]` integer rows of `x`.
        weights: `[nnz]`.
        x: `[n, dim]`, contiguous.
        dtype: of the result.
        unit: normalise the rows of `x`.
        base: `[n_rows, dim]`, contiguous, added to the sums.
        divisor: what all of it is divided by.
        tangent: `[n_rows, dim]`, contiguous; turns the gradient with respect to the unit vector of
            each of its rows, which the sum then is, into that with respect to the row.

    Returns:
        `[n_rows, dim]`.
    """
    n_rows, dim = len(offsets) - 1, x.shape[1]
    n_windows = triton.cdiv(len(index), _SPLIT)
    out = x.new_empty(n_rows, dim, dtype=dtype)
    shares = x.new_empty(2 * n_windows, dim, dtype=accumulator(x))
    other = base if base is not None else tangent
    options = tile_options(dim)
    with torch.cuda.device_of(x):  # type: ignore[no-untyped-call]
        _window_sums[(n_windows, 2)](
            offsets, index, weights, x, shares, n_rows, len(x), dim, len(index),
            UNIT=unit, SPLIT=_SPLIT, **options,
        )  # fmt: skip
        _row_sums[(n_rows,)](
            offsets, index, weights, x, shares, x if other is None else other, out, len(x), dim,
            divisor, UNIT=unit, BASE=base is not None, TANGENT=tangent is not None, SPLIT=_SPLIT,
            **options,
        )  # fmt: skip
    return out


def accumulator(x: torch.Tensor) -> torch.dtype:
    """Return the type that sums over `x` are kept in."""
    return torch.promote_types(x.dtype, torch.float32)


def tile_options(dim: int) -> dict[str, int]:
    """Return the tile (`BLOCK` rows of `DIM` columns) and the warps that fit vectors of `dim`."""
    width = max(16, triton.next_power_of_2(dim))
    block = min(32, max(1, _TILE // width))
    return {"DIM": width, "BLOCK": block, "num_warps": min(8, max(1, block * width // 1024))}


@triton.jit
def inverse_norm(rows):  # type: ignore[no-untyped-def]
    """Inverse length of each row of `[BLOCK, DIM]`."""
    return 1.0 / tl.maximum(tl.sqrt(tl.sum(rows * rows, 1)), _EPS)


@triton.jit
def row_of(offsets, n_rows, place):  # type: ignore[no-untyped-def]
    """Find the row that holds position `place`: the last one that starts there or before."""
    low = place * 0
    high = low + n_rows + 1
    while low < high:
        middle = (low + high) // 2
        starts = tl.load(offsets + middle) <= place
        low = tl.where(starts, middle + 1, low)
        high = tl.where(starts, high, middle)
    return low - 1


@triton.jit
def load_rows(x, row, valid, dim, TYPE: tl.constexpr, DIM: tl.constexpr):  # type: ignore[no-untyped-def]
    """Load rows of a table as `[BLOCK, DIM]` in type `TYPE`; zeros where not `valid`."""
    column = tl.arange(0, DIM)[None, :]
    pointers = x + row.to(tl.int64)[:, None] * dim + column
    return tl.load(pointers, mask=valid[:, None] & (column < dim), other=0).to(TYPE)


@triton.jit
def _add_rows(  # type: ignore[no-untyped-def]
    acc, index, weights, x, start, end, n, dim,
    UNIT: tl.constexpr, BLOCK: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    for first in range(start, end, BLOCK):
        q = first + tl.arange(0, BLOCK)
        row = tl.load(index + q, mask=q < end, other=-1)
        valid = (row >= 0) & (row < n)
        rows = load_rows(x, row, valid, dim, acc.dtype, DIM)
        weight = tl.load(weights + q, mask=valid, other=0).to(acc.dtype)
        if UNIT:
            weight *= inverse_norm(rows)
        acc += weight[:, None] * rows
    return acc


@triton.jit
def _window_sums(  # type: ignore[no-untyped-def]
    offsets, index, weights, x, shares, n_rows, n, dim, nnz,
    UNIT: tl.constexpr, SPLIT: tl.constexpr, BLOCK: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    # shares[2w] is what window w adds to the row of its first entry, shares[2w + 1] to the row of
    # its last: for long rows only, and the second only if that row starts within the window
    window = tl.program_id(0).to(tl.int64)
    slot = tl.program_id(1)
    first = window * SPLIT
    after = tl.minimum(first + SPLIT, nnz)
    row = row_of(offsets, n_rows, tl.where(slot == 0, first, after - 1))
    known = (row >= 0) & (row < n_rows)
    start = tl.load(offsets + row, mask=known, other=0)
    end = tl.load(offsets + row + 1, mask=known, other=0)
    due = (end - start > SPLIT) & ((slot == 0) | (start > first))
    start = tl.maximum(start, first)
    end = tl.where(due, tl.minimum(end, after), start)
    acc = tl.zeros([BLOCK, DIM], shares.dtype.element_ty)
    acc = _add_rows(acc, index, weights, x, start, end, n, dim, UNIT, BLOCK, DIM)
    column = tl.arange(0, DIM)
    target = shares + (2 * window + slot) * dim + column
    tl.store(target, tl.sum(acc, 0), mask=due & (column < dim))


@triton.jit
def _row_sums(  # type: ignore[no-untyped-def]
    offsets, index, weights, x, shares, other, out, n, dim, divisor,
    UNIT: tl.constexpr, BASE: tl.constexpr, TANGENT: tl.constexpr,
    SPLIT: tl.constexpr, BLOCK: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    start, end = tl.load(offsets + row), tl.load(offsets + row + 1)
    long = end - start > SPLIT
    acc = tl.zeros([BLOCK, DIM], shares.dtype.element_ty)
    stop = tl.where(long, start, end)
    acc = _add_rows(acc, index, weights, x, start, stop, n, dim, UNIT, BLOCK, DIM)
    stop = tl.where(long, tl.cdiv(end, SPLIT), start // SPLIT)
    for first in range(start // SPLIT, stop, BLOCK):
        window = first + tl.arange(0, BLOCK)
        share = 2 * window + (window * SPLIT < start).to(tl.int64)
        acc += load_rows(shares, share, window < stop, dim, acc.dtype, DIM)
    total = tl.sum(acc, 0)
    column = tl.arange(0, DIM)
    here = row * dim + column
    if BASE or TANGENT:
        vector = tl.load(other + here, mask=column < dim, other=0).to(acc.dtype)
        if BASE:
            total += vector
        if TANGENT:
            # d f(v/|v|) / dv = (g - <g, v/|v|> v/|v|) / |v|; a clamped norm is a constant
            norm = tl.sqrt(tl.sum(vector * vector, 0))
            scale = 1.0 / tl.maximum(norm, _EPS)
            along = tl.where(norm > _EPS, tl.sum(total * vector, 0) * scale, 0.0)
            total = (total - along * vector * scale) * scale
    total = total / divisor
    tl.store(out + here, total.to(out.dtype.element_ty), mask=column < dim)
