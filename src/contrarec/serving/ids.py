"""Ids as they come over a wire: single ones found at once, and those with a common start."""

import re
from collections.abc import Iterable

import numpy as np
import polars as pl

from contrarec.data.vocabulary import Vocabulary

Id = str | int

_WHOLE = re.compile(r"-?[0-9]{1,19}")


class IdIndex:
    """The ids of a vocabulary in a hash table: some 150 bytes each.

    `Vocabulary.index` joins tables, which is for many ids: it takes milliseconds for a single one.

    Args:
        vocabulary: the ids.

    Attributes:
        ids: all ids, in the order of their indices.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.ids: list[Id] = vocabulary.ids.to_list()
        self._places = {id_: place for place, id_ in enumerate(self.ids)}
        self._whole = vocabulary.ids.dtype == pl.Int64
        self._texts = vocabulary.ids.cast(pl.String).sort()

    def __len__(self) -> int:
        return len(self.ids)

    def index(self, ids: Iterable[Id]) -> np.ndarray:
        """Return the index of each id `[n]` int64, -1 for an unknown one.

        A whole number and its text are the same id.
        """
        places = [self._places.get(self._key(id_), -1) for id_ in ids]
        return np.array(places, np.int64)

    def starting(self, text: str, n: int) -> list[Id]:
        """Return the first `n` of the ids that start with a text, ascending as texts."""
        first = self._texts.search_sorted(text) if text else 0
        found = self._texts.slice(first, n)
        found = found.filter(found.str.starts_with(text))
        return (found.cast(pl.Int64) if self._whole else found).to_list()

    def _key(self, id_: Id) -> Id:
        if not self._whole:
            return str(id_)
        if isinstance(id_, str):
            return int(id_) if _WHOLE.fullmatch(id_) else ""
        return id_
