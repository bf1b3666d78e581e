"""Ranking without torch: the best items of a few rows, and the scores of single pairs.

What is ranked for whom is said in local rows: row r of a mask is about the r-th row asked for,
whoever that is.
"""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from contrarec.data.interactions import Interactions
from contrarec.errors import DataError

Ranked = tuple[NDArray[np.int32], NDArray[np.float32]]
"""Items `[n, k]`, best first, and their scores; -1 and -inf where nothing can be ranked."""

_BLOCK = 1 << 20  # scores, or numbers of gathered vectors, in memory at a time


class Rows(NamedTuple):
    """Rows of ascending item indices."""

    indptr: NDArray[np.int64]
    """`[n + 1]`, where each row starts."""
    indices: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def select(self, rows: NDArray[np.integer]) -> "Rows":
        """Return some of the rows; a negative one is empty."""
        known = rows >= 0
        lengths = np.where(known, np.diff(self.indptr)[rows] if len(self) else 0, 0)
        indptr = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(lengths, out=indptr[1:])
        starts = self.indptr[:-1][rows] if len(self) else np.zeros(len(rows), np.int64)
        places = np.repeat(starts - indptr[:-1], lengths) + np.arange(indptr[-1])
        return Rows(indptr, self.indices[places])

    @property
    def of(self) -> NDArray[np.int64]:
        """The row of each entry."""
        return np.repeat(np.arange(len(self)), np.diff(self.indptr))


class Ranking(Protocol):
    """Whatever ranks items for users, or for items."""

    def top(
        self,
        rows: NDArray[np.int64],
        k: int,
        *,
        mask: Rows | None,
        candidates: NDArray[np.bool_] | None,
    ) -> Ranked:
        """Rank the k best items of each row; among equal scores the lowest index wins.

        Args:
            rows: `[n]`, whom to rank for.
            k: length of the lists.
            mask: row r has the items that are not ranked for `rows[r]`.
            candidates: `[n_items]`, true where an item may be ranked at all.
        """

    def pairs(self, rows: NDArray[np.int64], items: NDArray[np.integer]) -> NDArray[np.float32]:
        """Score single pairs, `[n]` of each."""


class VectorRanking:
    """Ranks by dot products of two float32 tables, which may lie on disk.

    Args:
        row_vectors: `[n_rows, dim]`.
        item_vectors: `[n_items, dim]`.
    """

    def __init__(self, row_vectors: NDArray[np.float32], item_vectors: NDArray[np.float32]) -> None:
        self._rows, self._items = row_vectors, item_vectors

    def top(
        self,
        rows: NDArray[np.int64],
        k: int,
        *,
        mask: Rows | None,
        candidates: NDArray[np.bool_] | None,
    ) -> Ranked:
        """Rank by partition, in blocks of a million scores."""
        n_items = len(self._items)
        items = np.full((len(rows), k), -1, np.int32)
        best = np.full((len(rows), k), -np.inf, np.float32)
        step = max(1, _BLOCK // max(n_items, 1))
        for start in range(0, len(rows), step):
            part = slice(start, min(start + step, len(rows)))
            scores = self._rows[rows[part]] @ self._items.T  # [b, n_items]
            if np.isnan(scores).any():
                raise DataError("scores must not be NaN: has the model diverged?")
            if candidates is not None:
                scores[:, ~candidates] = -np.inf
            if mask is not None:
                block = mask.select(np.arange(part.start, part.stop))
                scores[block.of, block.indices] = -np.inf
            found, values = _largest(scores, k)
            items[part, : found.shape[1]], best[part, : found.shape[1]] = found, values
        items[np.isneginf(best)] = -1
        return items, best

    def pairs(self, rows: NDArray[np.int64], items: NDArray[np.integer]) -> NDArray[np.float32]:
        """Score by gathering the vectors, some at a time."""
        scores = np.empty(len(rows), np.float32)
        step = max(1, _BLOCK // self._items.shape[1])
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            scores[part] = np.einsum("nd,nd->n", self._rows[rows[part]], self._items[items[part]])
        return scores


def _largest(scores: NDArray[np.float32], k: int) -> Ranked:
    """Return the k largest of each row, descending, the lowest index first among equals."""
    # One integer orders both: the bits of a float ascend like an integer, negative ones backwards.
    high = (scores + np.float32(0)).view(np.int32).astype(np.int64)  # -0.0 becomes 0.0
    high ^= (high >> 31) & 0x7FFFFFFF
    keys = (high << 32) | (0xFFFFFFFF - np.arange(scores.shape[1]))
    k = min(k, scores.shape[1])
    if k < scores.shape[1]:
        keys = np.partition(keys, scores.shape[1] - k, axis=1)[:, -k:]
    keys = -np.sort(-keys, axis=1)
    found = 0xFFFFFFFF - (keys & 0xFFFFFFFF)
    return found.astype(np.int32), np.take_along_axis(scores, found, 1)


def rows_of(history: Interactions, users: NDArray[np.int64]) -> Rows:
    """Return the items of some users; a negative index is a user without any."""
    return Rows(history.indptr, history.indices).select(users)


def without(listed: Rows, mask: Rows | None, candidates: NDArray[np.bool_] | None) -> Rows:
    """Return the rows without what a mask has in the same row, and what is no candidate."""
    keep = np.ones(len(listed.indices), bool)
    if candidates is not None:
        keep &= candidates[listed.indices]
    if mask is not None and len(mask.indices):
        stride = int(max(mask.indices.max(), listed.indices.max(initial=0))) + 1
        keep &= ~np.isin(listed.of * stride + listed.indices, mask.of * stride + mask.indices)
    lengths = np.bincount(listed.of[keep], minlength=len(listed))
    return Rows(np.concatenate([[0], np.cumsum(lengths)]), listed.indices[keep])


def together(first: Rows, second: Rows, n_items: int) -> Rows:
    """Return the union of two sets of rows."""
    keys = np.concatenate([part.of * n_items + part.indices for part in (first, second)])
    keys = np.unique(keys)
    lengths = np.bincount(keys // n_items, minlength=len(first))
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    return Rows(indptr, (keys % n_items).astype(np.int32))


def best_listed(ranking: Ranking, rows: NDArray[np.int64], k: int, listed: Rows) -> Ranked:
    """Rank no items but those listed for each row.

    Args:
        ranking: scores the pairs.
        rows: `[n]`, whom to rank for.
        k: length of the lists.
        listed: row r has the items that may be ranked for `rows[r]`.
    """
    items = np.full((len(rows), k), -1, np.int32)
    best = np.full((len(rows), k), -np.inf, np.float32)
    scores = ranking.pairs(rows[listed.of], listed.indices)
    if np.isnan(scores).any():
        raise DataError("scores must not be NaN: has the model diverged?")
    order = np.lexsort((listed.indices, -scores, listed.of))  # rows stay where they are
    place = np.arange(len(order)) - listed.indptr[listed.of]
    keep = (place < k) & ~np.isneginf(scores[order])
    at = listed.of[keep], place[keep]
    items[at], best[at] = listed.indices[order[keep]], scores[order[keep]]
    return items, best
