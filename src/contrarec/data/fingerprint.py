"""A hash of a data set, which need not be whole in memory."""

import hashlib
from collections.abc import Callable, Iterable

import numpy as np
import polars as pl

IdPieces = Callable[[], Iterable[pl.Series]]
ArrayPieces = Callable[[], Iterable[np.ndarray]]


def fingerprint(users: IdPieces, items: IdPieces, indptr: ArrayPieces, indices: ArrayPieces) -> str:
    """Return 16 hexadecimal digits that depend on the training pairs and all ids, in order.

    Args:
        users: returns the ids of users, in pieces of one type.
        items: likewise of items.
        indptr: returns the row pointer of train, in pieces.
        indices: likewise its columns.
    """
    digest = hashlib.sha256()
    for pieces in (users, items):
        sizes = [(ids.dtype, len(ids)) for ids in pieces()]
        digest.update(f"{sizes[0][0]} {sum(n for _, n in sizes)} ".encode())
        for ids in pieces():
            lengths = ids.cast(pl.String).str.len_bytes()
            digest.update(lengths.to_numpy().astype("<u4").tobytes())
        for ids in pieces():
            digest.update("".join(ids.cast(pl.String)).encode())
    for arrays, kind in ((indptr, "<i8"), (indices, "<i4")):
        for array in arrays():
            digest.update(np.ascontiguousarray(array, kind).data)
    return digest.hexdigest()[:16]
