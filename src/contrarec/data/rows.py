"""Compressed sparse rows from pairs in any order, all at once or batch by batch."""

from typing import NamedTuple

import numpy as np

from contrarec.errors import DataError

SMALL = 1 << 20
"""Up to so many pairs, sorting them with NumPy takes less time than loading compiled code."""

_BLOCK = 1 << 22  # entries looked at at a time, where a copy in another type is needed


class Rows(NamedTuple):
    """What `Interactions` are made of, but for the ids."""

    indptr: np.ndarray  # [n_users + 1] int64
    indices: np.ndarray  # [nnz] int32
    time: np.ndarray | None  # [nnz]
    weight: np.ndarray | None  # [nnz] float32
    n_duplicates: int


class RowBuilder:
    """Rows from batches of pairs, in the memory of the result and 24 bytes a user.

    The pairs of each user are counted beforehand, so that every pair is written where it belongs.

    Args:
        counts: `[n_users]`, how many pairs of each user will come, repeated ones included.
        time: type of the times; None for none.
        weighted: whether there are weights.
    """

    def __init__(
        self, counts: np.ndarray, *, time: np.dtype | None = None, weighted: bool = False
    ) -> None:
        self._indptr = offsets(counts)
        self._cursor = self._indptr[:-1].copy()
        n = int(self._indptr[-1])
        self._indices = np.empty(n, np.int32)
        self._timed, self._weighted = time is not None, weighted
        self._time = np.empty(n if self._timed else 0, time or np.int64)
        self._weight = np.empty(n if weighted else 0, np.float64)

    def add(
        self,
        users: np.ndarray,
        items: np.ndarray,
        time: np.ndarray | None = None,
        weight: np.ndarray | None = None,
    ) -> None:
        """Take a batch of pairs, `[n]` each; indices must be in range.

        Raises:
            DataError: a user has more pairs than were counted.
        """
        from contrarec.kernels.cpu.rows import place_pairs

        fits = place_pairs(
            np.ascontiguousarray(users, np.int32),
            np.ascontiguousarray(items, np.int32),
            self._time[:0] if time is None else np.ascontiguousarray(time, self._time.dtype),
            self._weight[:0] if weight is None else np.ascontiguousarray(weight, np.float64),
            self._indptr[1:],
            self._cursor,
            self._indices,
            self._time,
            self._weight,
        )
        if not fits:
            raise DataError("a user has more pairs than were counted.")

    def finish(self) -> Rows:
        """Sort the rows and collapse repeated pairs; the builder is used up.

        Raises:
            DataError: a user has fewer pairs than were counted.
        """
        from contrarec.kernels.cpu.rows import close_gaps, settle_rows

        if (self._cursor != self._indptr[1:]).any():
            raise DataError("a user has fewer pairs than were counted.")
        n, kept = len(self._indices), self._cursor
        settle_rows(self._indptr, self._indices, self._time, self._weight, kept)
        close_gaps(self._indptr, kept, self._indices, self._time, self._weight)
        nnz = int(self._indptr[-1])
        for array in (self._indices, self._time, self._weight):
            array.resize(min(nnz, len(array)), refcheck=False)
        return Rows(
            self._indptr,
            self._indices,
            self._time if self._timed else None,
            self._weight.astype(np.float32) if self._weighted else None,
            n - nnz,
        )


def pack(
    users: np.ndarray,
    items: np.ndarray,
    n_users: int,
    n_items: int,
    time: np.ndarray | None = None,
    weight: np.ndarray | None = None,
) -> Rows:
    """Collect pairs `[n]` whose indices are in range; see `Interactions.from_pairs`."""
    if not compiled_pays(len(users)):
        return pack_reference(users, items, n_users, n_items, time, weight)
    builder = RowBuilder(
        count(users, n_users),
        time=None if time is None else time.dtype,
        weighted=weight is not None,
    )
    builder.add(users, items, time, weight)
    return builder.finish()


def pack_reference(
    users: np.ndarray,
    items: np.ndarray,
    n_users: int,
    n_items: int,
    time: np.ndarray | None = None,
    weight: np.ndarray | None = None,
) -> Rows:
    """Compute `pack` by sorting one number per pair: the oracle of `RowBuilder`."""
    keys = users.astype(np.int64) * n_items + items
    if not (keys[1:] > keys[:-1]).all():  # files are often sorted already
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        time = None if time is None else time[order]
        weight = None if weight is None else weight[order]
    first = np.ones(len(keys), dtype=bool)
    first[1:] = keys[1:] != keys[:-1]
    if not first.all():
        starts = np.flatnonzero(first)
        time = None if time is None else np.maximum.reduceat(time, starts)
        weight = None if weight is None else np.add.reduceat(weight, starts)
    pairs = keys[first]
    rows = pairs // max(n_items, 1)
    return Rows(
        offsets(np.bincount(rows, minlength=n_users)),
        (pairs - rows * n_items).astype(np.int32),
        time,
        None if weight is None else weight.astype(np.float32),
        len(keys) - len(pairs),
    )


def compiled_pays(n_pairs: int) -> bool:
    """Whether compiled code is there, and worth loading for so many pairs."""
    if n_pairs <= SMALL:
        return False
    from contrarec.kernels.dispatch import HAS_NUMBA, resolve

    # asking also tells the kernels how many threads there are, before they start some of their own
    return HAS_NUMBA and resolve("numba") == "numba"


def offsets(counts: np.ndarray) -> np.ndarray:
    """Return where each of consecutive rows starts, and where the last one ends."""
    indptr = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=indptr[1:])
    return indptr


def count(index: np.ndarray, size: int) -> np.ndarray:
    """Return how often each of `size` indices occurs, int64, without a copy of all of them."""
    counts = np.zeros(size, dtype=np.int64)
    for start in range(0, len(index), _BLOCK):
        counts += np.bincount(index[start : start + _BLOCK], minlength=size)
    return counts


def first_fall(indptr: np.ndarray, indices: np.ndarray) -> int | None:
    """Return the first place that does not ascend within its row; None if all rows ascend."""
    for start in range(0, len(indices) - 1, _BLOCK):
        part = indices[start : start + _BLOCK + 1]
        falls = np.flatnonzero(part[1:] <= part[:-1]) + start + 1
        within = falls[indptr[np.searchsorted(indptr, falls)] != falls]  # not where a row starts
        if len(within):
            return int(within[0])
    return None
