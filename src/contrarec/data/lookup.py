"""Places of ids in a long list, for many ids: a hash table instead of a join."""

from itertools import count

import numpy as np
import polars as pl


class Lookup:
    """Finds the index of ids that are all in a vocabulary; 12 to 24 bytes per id of it.

    A text stands in the table as its 64-bit hash. All ids that will be asked for are known, and
    their hashes are checked to differ, so that no two of them can be mistaken for one another.

    Args:
        ids: `[n]` distinct, `String` or `Int64`.
    """

    def __init__(self, ids: pl.Series) -> None:
        from contrarec.kernels.cpu.rows import fill_table

        self._ids = ids
        self._seed = next(seed for seed in count() if _keys(ids, seed).n_unique() == len(ids))
        self._keys = _keys(ids, self._seed).to_numpy()
        self._table = np.full(1 << (2 * len(ids)).bit_length(), -1, np.int32)
        fill_table(self._keys, self._table)

    def __call__(self, ids: pl.Series) -> np.ndarray:
        """Return the index of each id, `[n]` int32; the ids must be in the vocabulary."""
        return self._places(ids)

    def missing(self, ids: pl.Series) -> pl.Series:
        """Return those of any ids that are not in the vocabulary: each is compared itself."""
        places = self._places(ids)
        found = self._ids.gather(np.maximum(places, 0)) == ids
        return ids.filter(~found | pl.Series(places < 0))

    def _places(self, ids: pl.Series) -> np.ndarray:
        from contrarec.kernels.cpu.rows import find_keys

        places = np.empty(len(ids), np.int32)
        find_keys(_keys(ids, self._seed).to_numpy(), self._keys, self._table, places)
        return places


def _keys(ids: pl.Series, seed: int) -> pl.Series:
    return ids.reinterpret(signed=False) if ids.dtype == pl.Int64 else ids.hash(seed)
