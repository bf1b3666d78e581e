"""Merging scores into the best so far, and finding items in sorted rows, compiled."""

import numpy as np

from contrarec.kernels.cpu.compile import njit, njit_serial, prange
from contrarec.kernels.topk import EMPTY, HIGH, LOW, NAN

_RUN = 64  # scores compared before branching: a few vector registers, still a fine-grained skip


@njit
def merge(scores, bits, first, indptr, indices, rows, candidates, keys):  # type: ignore[no-untyped-def]
    """Insert the scores of the items from `first` on into the keys, descending in each row."""
    width = scores.shape[1]
    last = keys.shape[1] - 1
    for r in prange(scores.shape[0]):
        best = keys[r]  # descending
        threshold = _score(best[last])
        m = m_end = 0
        if len(rows):
            m, m_end = indptr[rows[r]], indptr[rows[r] + 1]
            m += np.searchsorted(indices[m:m_end], first)
        for start in range(0, width, _RUN):
            stop = min(start + _RUN, width)
            look = np.int32(stop - start < _RUN)
            if not look:  # a loop of known length without a branch: vector instructions
                for j in range(_RUN):  # "not <=" lets NaN through, too
                    look |= np.int32(not (scores[r, start + j] <= threshold))
            if not look:
                continue
            for j in range(start, stop):
                score = scores[r, j]
                if score <= threshold:
                    continue
                if score != score:
                    _insert(best, NAN)
                    continue
                item = first + j
                while m < m_end and indices[m] < item:
                    m += 1
                if (m < m_end and indices[m] == item) or (len(candidates) and not candidates[item]):
                    continue
                _insert(best, _key(score, bits[r, j], item))
                threshold = _score(best[last])


@njit_serial
def _key(score, bits, item):  # type: ignore[no-untyped-def]
    # The bits of a float order like an integer, except that negative ones run backwards.
    high = np.int64(bits)
    high ^= (high >> 31) & HIGH
    if score == 0:  # 0.0 and -0.0 are equal
        high = np.int64(0)
    return (high << 32) | (LOW - item)


@njit_serial
def _score(key):  # type: ignore[no-untyped-def]
    if key == EMPTY:
        return np.float32(-np.inf)
    high = key >> 32
    return np.int32(high ^ ((high >> 31) & HIGH)).view(np.float32)


@njit_serial
def _insert(keys, key):  # type: ignore[no-untyped-def]
    # Insertion into a descending array, dropping the last: no branch, hence vector instructions.
    for p in range(len(keys) - 1, 0, -1):
        keys[p] = max(keys[p], min(keys[p - 1], key))
    keys[0] = max(keys[0], key)


@njit
def in_rows(items, rows, indptr, indices, found):  # type: ignore[no-untyped-def]
    """Write whether each item stands in its row of a CSR matrix."""
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
