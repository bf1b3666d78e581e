"""Masked top-k of scores, block by block, and which of the ranked items are positives.

The best items of a row are kept as keys: one integer each, the score above and the inverted index
below, so that a single comparison orders by score and, among equal scores, by lowest index. Items
may come in blocks, as long as these ascend: the keys are all that is carried from one to the next.

The compiled twin reads each score once and compares it with the k-th best so far, in runs that the
compiler turns into vector instructions; only what beats that threshold is looked at further.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from contrarec.errors import ConfigError, DataError
from contrarec.kernels.dispatch import Backend, resolve

Csr = tuple[NDArray[np.int64], NDArray[np.int32]]  # indptr, indices (ascending in each row)
CsrTensors = tuple[torch.Tensor, torch.Tensor]  # the same, int64 and int32, on the scores' device

LOW = 0xFFFFFFFF
HIGH = 0x7FFFFFFF
EMPTY = np.iinfo(np.int64).min  # below the key of every finite score
NAN = np.iinfo(np.int64).max  # above the key of every score

_NO_ROWS, _NO_ITEMS, _ALL = np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.bool_)


def masked_top_k(
    scores: torch.Tensor,
    k: int,
    *,
    mask: Csr | None = None,
    rows: NDArray[np.int64] | None = None,
    candidates: NDArray[np.bool_] | None = None,
    backend: Backend = "auto",
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Rank the k best items of each row, best first; among equal scores the lowest index wins.

    Masked items, items outside `candidates` and scores of -inf are never ranked. A NaN anywhere in
    a row makes that row's result NaN, as in arithmetic: the caller looks at the first column.

    Args:
        scores: `[b, n_items]`; types other than float32 are converted.
        k: how many, at least 1; may exceed `n_items`.
        mask: CSR `(indptr, indices)`, ascending in each row; entries from `n_items` on are ignored.
        rows: `[b]`, the mask row of each score row; required with `mask`.
        candidates: `[n_items]`, true where an item may be ranked; all if None.
        backend: `auto`, `reference` or `numba`.

    Returns:
        items `[b, k]` int32 and their scores `[b, k]` float32; -1 and -inf where fewer than k
        items can be ranked, -1 and NaN in rows that hold a NaN.

    Raises:
        ConfigError: shapes or `k` do not fit.
        DataError: `rows` points outside the mask.
        BackendError: the back end asked for is not there.

    >>> masked_top_k(torch.tensor([[0.5, 0.9, 0.9, 0.1]]), 2)[0]
    array([[1, 2]], dtype=int32)
    """
    n_rows, _ = _check(scores, k, mask, rows, candidates)
    device = scores.device
    keys = merge_top_k(
        empty_keys(n_rows, k, device),
        scores,
        mask=None if mask is None else csr_tensors(mask, device),
        rows=None if rows is None else torch.tensor(rows, dtype=torch.int64, device=device),
        candidates=None if candidates is None else torch.tensor(candidates, device=device),
        backend=backend,
    )
    return read_keys(keys)


def empty_keys(n_rows: int, k: int, device: torch.device) -> torch.Tensor:
    """Return the keys of rows that no item has been ranked for: `[n_rows, k]` int64."""
    return torch.full((n_rows, k), EMPTY, device=device)


def csr_tensors(
    csr: tuple[NDArray[np.integer], NDArray[np.integer]], device: torch.device
) -> CsrTensors:
    """Bring a CSR onto a device; on the CPU it shares its memory where that has the right types."""
    indptr = np.require(csr[0], np.int64, ["C", "W"])  # torch warns of what it may not write
    indices = np.require(csr[1], np.int32, ["C", "W"])
    return torch.as_tensor(indptr, device=device), torch.as_tensor(indices, device=device)


def merge_top_k(
    keys: torch.Tensor,
    scores: torch.Tensor,
    *,
    first: int = 0,
    mask: CsrTensors | None = None,
    rows: torch.Tensor | None = None,
    candidates: torch.Tensor | None = None,
    backend: Backend = "auto",
) -> torch.Tensor:
    """Merge a block of items into the keys of the best items before it; blocks must ascend.

    The checks of `masked_top_k` are the caller's. Everything lies on one device.

    Args:
        keys: `[b, k]` int64 of `empty_keys` or of the block before; may be written into.
        scores: `[b, w]` of the items from `first` on.
        first: index of the first item.
        mask: items not to be ranked; those outside the block are ignored.
        rows: `[b]` int64, the mask row of each score row; used with `mask` only.
        candidates: `[first + w]` bool or longer, true where an item may be ranked.
        backend: `auto`, `reference` or `numba`.

    Returns:
        The keys, descending in each row: what `read_keys` reads.
    """
    scores = scores.detach().to(torch.float32)
    if resolve(backend, keys, scores) == "reference":
        return merge_top_k_reference(keys, scores, first, mask, rows, candidates)
    from contrarec.kernels.cpu import topk as cpu

    values = scores.contiguous().numpy()
    indptr, indices, of = _NO_ROWS, _NO_ITEMS, _NO_ROWS
    if mask is not None and rows is not None:
        indptr, indices, of = mask[0].numpy(), mask[1].numpy(), rows.numpy()
    cpu.merge(
        values,
        values.view(np.int32),
        first,
        indptr,
        indices,
        of,
        _ALL if candidates is None else candidates.numpy(),
        keys.numpy(),
    )
    return keys


def merge_top_k_reference(
    keys: torch.Tensor,
    scores: torch.Tensor,
    first: int,
    mask: CsrTensors | None,
    rows: torch.Tensor | None,
    candidates: torch.Tensor | None,
) -> torch.Tensor:
    """Compute `merge_top_k` in torch on any device, with a copy of the block as 64-bit keys."""
    n_rows, width = scores.shape
    device = scores.device
    high = scores.contiguous().view(torch.int32).long()
    high ^= (high >> 31) & HIGH
    high.masked_fill_(scores == 0, 0)  # 0.0 and -0.0 are equal
    # One column too many takes what the mask says about items outside the block.
    block = torch.empty((n_rows, width + 1), dtype=torch.int64, device=device)
    ranked = block[:, :width]
    torch.bitwise_left_shift(high, 32, out=high)
    torch.bitwise_or(high, LOW - first - torch.arange(width, device=device), out=ranked)
    ranked.masked_fill_(torch.isneginf(scores), EMPTY)
    if candidates is not None:
        ranked.masked_fill_(~candidates[first : first + width], EMPTY)
    if mask is not None and rows is not None:
        row, column = _entries(mask, rows)
        column = column - first
        block[row, torch.where((column >= 0) & (column < width), column, width)] = EMPTY
    ranked.masked_fill_(torch.isnan(scores), NAN)
    return torch.topk(torch.cat([keys, ranked], 1), keys.shape[1]).values


def read_keys(keys: torch.Tensor) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Turn keys `[b, k]` into items and scores as `masked_top_k` returns them."""
    packed = keys.cpu().numpy()
    high = packed >> 32
    best = (high ^ ((high >> 31) & HIGH)).astype(np.int32).view(np.float32)
    items = (LOW - (packed & LOW)).astype(np.int32)
    empty, failed = packed == EMPTY, packed[:, 0] == NAN
    items[empty], best[empty] = -1, -np.inf
    items[failed], best[failed] = -1, np.nan
    return items, best


def _entries(csr: CsrTensors, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the position in `rows` and the column of every entry of these CSR rows."""
    indptr, indices = csr
    starts, lengths = indptr[rows], indptr[rows + 1] - indptr[rows]
    row = torch.repeat_interleave(lengths)
    # Place of each entry: its row's start plus its rank within the row.
    within = torch.arange(len(row), device=row.device) - (lengths.cumsum(0) - lengths)[row]
    return row, indices[starts[row] + within].long()


def in_rows(
    items: NDArray[np.int32],
    rows: NDArray[np.int64],
    truth: Csr,
    *,
    backend: Backend = "auto",
) -> NDArray[np.bool_]:
    """Look up which ranked items belong to the CSR row of their user.

    Args:
        items: `[n, k]` item indices; negative ones belong to nobody.
        rows: `[n]`, the CSR row of each list.
        truth: CSR `(indptr, indices)`, ascending in each row.
        backend: `auto`, `reference` or `numba`.

    Returns:
        `[n, k]` bool.

    Raises:
        DataError: `rows` points outside the CSR.

    >>> truth = np.array([0, 2, 3]), np.array([1, 4, 0], np.int32)
    >>> in_rows(np.array([[4, 0, -1], [4, 0, -1]], np.int32), np.array([0, 1]), truth)
    array([[ True, False, False],
           [False,  True, False]])
    """
    indptr = np.ascontiguousarray(truth[0], np.int64)
    indices = np.ascontiguousarray(truth[1], np.int32)
    rows = np.ascontiguousarray(rows, np.int64)
    check_rows(rows, len(indptr) - 1)
    if resolve(backend) == "reference":
        return in_rows_reference(items, rows, indptr, indices)
    from contrarec.kernels.cpu import topk as cpu

    found = np.empty(items.shape, np.bool_)
    cpu.in_rows(np.ascontiguousarray(items, np.int32), rows, indptr, indices, found)
    return found


def in_rows_reference(
    items: NDArray[np.int32],
    rows: NDArray[np.int64],
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
) -> NDArray[np.bool_]:
    """Compute `in_rows` by numbering all (row, item) pairs: the oracle of the kernel."""
    if not len(indices):
        return np.zeros(items.shape, np.bool_)
    stride = int(max(indices.max(), items.max(initial=0))) + 1
    pairs = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr)) * stride + indices  # ascending
    wanted = rows[:, None] * stride + items
    at = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    found: NDArray[np.bool_] = (pairs[at] == wanted) & (items >= 0)
    return found


def _check(
    scores: torch.Tensor,
    k: int,
    mask: Csr | None,
    rows: NDArray[np.int64] | None,
    candidates: NDArray[np.bool_] | None,
) -> tuple[int, int]:
    if scores.ndim != 2:
        raise ConfigError(f"`scores` must be [b, n_items], got {tuple(scores.shape)}.")
    n_rows, n_items = scores.shape
    if k < 1:
        raise ConfigError(f"`k` must be at least 1, got {k}.")
    if (mask is None) != (rows is None):
        raise ConfigError("`mask` and `rows` must be given together.")
    if mask is not None and rows is not None:
        if rows.shape != (n_rows,):
            raise ConfigError(f"`rows` must be [{n_rows}] like `scores`, got {rows.shape}.")
        check_rows(rows, len(mask[0]) - 1)
    if candidates is not None and candidates.shape != (n_items,):
        raise ConfigError(f"`candidates` must be [{n_items}], got {candidates.shape}.")
    return n_rows, n_items


def check_rows(rows: NDArray[np.int64], n_rows: int) -> None:
    """Refuse rows that a CSR does not have: compiled code would read foreign memory.

    Raises:
        DataError: a row lies outside `[0, n_rows)`.
    """
    if rows.size and (rows.min() < 0 or rows.max() >= n_rows):
        raise DataError(
            f"`rows` must lie in [0, {n_rows}), got values from {rows.min()} to {rows.max()}."
        )
