"""Which items are not to be ranked, for the rows of one batch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contrarec.data.rows import offsets, pack
from contrarec.evaluation.ranking import CsrRows


@dataclass(frozen=True)
class RowsMask:
    """Compressed sparse rows `[b]` of items, ascending in each."""

    indptr: NDArray[np.integer]
    indices: NDArray[np.integer]


def take_rows(history: CsrRows, rows: NDArray[np.int64], keep: NDArray[np.bool_]) -> RowsMask:
    """Return the rows of a history at these indices, those that are not kept as empty ones.

    >>> history = RowsMask(np.array([0, 2, 3]), np.array([1, 4, 0]))
    >>> taken = take_rows(history, np.array([1, 0, 0]), np.array([True, True, False]))
    >>> taken.indptr, taken.indices
    (array([0, 1, 3, 3]), array([0, 1, 4]))
    """
    starts = history.indptr[rows]
    lengths = np.where(keep, history.indptr[rows + 1] - starts, 0)
    indptr = offsets(lengths)
    # place of each entry: where its row starts in the history, plus its rank within the row
    places = np.arange(indptr[-1]) + np.repeat(starts - indptr[:-1], lengths)
    return RowsMask(indptr, history.indices[places])


def add_pairs(
    mask: RowsMask, rows: NDArray[np.int64], items: NDArray[np.int64], n_items: int
) -> RowsMask:
    """Return the mask with more pairs `[p]` of row and item; repeated ones count once.

    >>> mask = RowsMask(np.array([0, 2, 3]), np.array([1, 4, 0]))
    >>> more = add_pairs(mask, np.array([1, 0, 0]), np.array([3, 2, 4]), 5)
    >>> more.indptr, more.indices
    (array([0, 3, 5]), array([1, 2, 4, 0, 3], dtype=int32))
    """
    if not len(rows):
        return mask
    n_rows = len(mask.indptr) - 1
    own = np.repeat(np.arange(n_rows), np.diff(mask.indptr))
    packed = pack(
        np.concatenate([own, rows]), np.concatenate([mask.indices, items]), n_rows, n_items
    )
    return RowsMask(packed.indptr, packed.indices)
