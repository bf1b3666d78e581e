"""Masked top-k of a block of scores, and which of the ranked items are positives.

The compiled top-k reads each score once and compares it with the k-th best so far, in runs that the
compiler turns into vector instructions; only what beats that threshold is looked at further. A
survivor becomes one integer, its score above and its inverted index below, so that a single
comparison orders by score and, among equal scores, by lowest index.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from contrarec.errors import ConfigError, DataError
from contrarec.kernels.dispatch import Backend, njit, njit_serial, prange, resolve

Csr = tuple[NDArray[np.int64], NDArray[np.int32]]  # indptr, indices (ascending in each row)

_RUN = 64  # scores compared before branching: a few vector registers, still a fine-grained skip
_LOW = 0xFFFFFFFF
_EMPTY = np.iinfo(np.int64).min  # below the key of every finite score


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
    n_rows, n_items = _check(scores, k, mask, rows, candidates)
    twin = resolve(backend, scores)
    scores = scores.detach().to(torch.float32)
    if mask is None or rows is None:
        mask = (np.zeros(2, np.int64), np.empty(0, np.int32))
        rows = np.zeros(n_rows, np.int64)
    indptr = np.ascontiguousarray(mask[0], np.int64)
    indices = np.ascontiguousarray(mask[1], np.int32)
    rows = np.ascontiguousarray(rows, np.int64)
    if candidates is None:
        candidates = np.ones(n_items, np.bool_)
    if twin == "reference":
        return masked_top_k_reference(scores, k, indptr, indices, rows, candidates)
    values = scores.contiguous().numpy()
    items = np.empty((n_rows, k), np.int32)
    best = np.empty((n_rows, k), np.float32)
    _top_k(values, values.view(np.int32), indptr, indices, rows, candidates, items, best)
    return items, best


def masked_top_k_reference(
    scores: torch.Tensor,
    k: int,
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    rows: NDArray[np.int64],
    candidates: NDArray[np.bool_],
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Compute `masked_top_k` with a stable sort in torch, on any device: the kernel's oracle."""
    n_rows, n_items = scores.shape
    masked = scores.clone()
    masked[:, torch.from_numpy(~candidates)] = -torch.inf
    starts, lengths = indptr[rows], indptr[rows + 1] - indptr[rows]
    row = np.repeat(np.arange(n_rows), lengths)
    # Position of each masked entry: its row's start plus its rank within the row.
    within = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    column = indices[np.repeat(starts, lengths) + within].astype(np.int64)
    known = column < n_items
    masked[torch.from_numpy(row[known]), torch.from_numpy(column[known])] = -torch.inf

    ranked = torch.sort(masked, dim=1, descending=True, stable=True)
    width = min(k, n_items)
    items = np.full((n_rows, k), -1, np.int32)
    best = np.full((n_rows, k), -np.inf, np.float32)
    best[:, :width] = ranked.values[:, :width].cpu().numpy()
    items[:, :width] = ranked.indices[:, :width].cpu().numpy()
    items[np.isneginf(best)] = -1
    has_nan = torch.isnan(scores).any(dim=1).cpu().numpy()
    items[has_nan], best[has_nan] = -1, np.nan
    return items, best


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
    _check_rows(rows, len(indptr) - 1)
    if resolve(backend) == "reference":
        return in_rows_reference(items, rows, indptr, indices)
    found = np.empty(items.shape, np.bool_)
    _in_rows(np.ascontiguousarray(items, np.int32), rows, indptr, indices, found)
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
        _check_rows(rows, len(mask[0]) - 1)
    if candidates is not None and candidates.shape != (n_items,):
        raise ConfigError(f"`candidates` must be [{n_items}], got {candidates.shape}.")
    return n_rows, n_items


def _check_rows(rows: NDArray[np.int64], n_rows: int) -> None:
    # Compiled code does not check bounds: a wrong index would read foreign memory.
    if rows.size and (rows.min() < 0 or rows.max() >= n_rows):
        raise DataError(
            f"`rows` must lie in [0, {n_rows}), got values from {rows.min()} to {rows.max()}."
        )


@njit
def _top_k(scores, bits, indptr, indices, rows, candidates, items, best):  # type: ignore[no-untyped-def]
    n_items = scores.shape[1]
    k = items.shape[1]
    for r in prange(scores.shape[0]):
        row = scores[r]
        keys = np.full(k, _EMPTY, np.int64)  # descending
        threshold = np.float32(-np.inf)
        has_nan = False
        m, m_end = indptr[rows[r]], indptr[rows[r] + 1]
        start = 0
        while start < n_items:
            stop = min(start + _RUN, n_items)
            look = False
            for j in range(start, stop):  # "not <=" lets NaN through, too
                look |= not (row[j] <= threshold)
            if look:
                for j in range(start, stop):
                    score = row[j]
                    if score > threshold:
                        while m < m_end and indices[m] < j:
                            m += 1
                        if (m < m_end and indices[m] == j) or not candidates[j]:
                            continue
                        _insert(keys, _key(score, bits[r, j], j))
                        if keys[k - 1] != _EMPTY:
                            threshold = row[_item(keys[k - 1])]
                    elif score != score:
                        has_nan = True
            start = stop
        for c in range(k):
            if has_nan or keys[c] == _EMPTY:
                items[r, c] = -1
                best[r, c] = np.nan if has_nan else -np.inf
            else:
                items[r, c] = _item(keys[c])
                best[r, c] = row[_item(keys[c])]


@njit_serial
def _key(score, bits, item):  # type: ignore[no-untyped-def]
    # The bits of a float order like an integer, except that negative ones run backwards.
    high = np.int64(bits)
    high ^= (high >> 31) & 0x7FFFFFFF
    if score == 0:  # 0.0 and -0.0 are equal
        high = np.int64(0)
    return (high << 32) | (_LOW - item)


@njit_serial
def _item(key):  # type: ignore[no-untyped-def]
    return _LOW - (key & _LOW)


@njit_serial
def _insert(keys, key):  # type: ignore[no-untyped-def]
    # Insertion into a descending array, dropping the last: no branch, hence vector instructions.
    for p in range(len(keys) - 1, 0, -1):
        keys[p] = max(keys[p], min(keys[p - 1], key))
    keys[0] = max(keys[0], key)


@njit
def _in_rows(items, rows, indptr, indices, found):  # type: ignore[no-untyped-def]
    for r in prange(items.shape[0]):
        first, end = indptr[rows[r]], indptr[rows[r] + 1]
        for c in range(items.shape[1]):
            low, high = first, end
            while low < high:
                middle = (low + high) // 2
                if indices[middle] < items[r, c]:
                    low = middle + 1
                else:
                    high = middle
            found[r, c] = low < end and indices[low] == items[r, c]
