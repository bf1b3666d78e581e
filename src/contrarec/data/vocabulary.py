"""The ids of users or items, and where each stands in the tables."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from contrarec.errors import DataError


class Vocabulary:
    """Unique ids in a fixed order; an id's index is its place in that order.

    Args:
        ids: the ids, texts or integers, none missing or repeated; their order is kept.
        distinct: whether it is known that none is repeated; otherwise that is checked.

    Attributes:
        ids: `[n]`, as `String` or `Int64`.

    Raises:
        DataError: an id is missing, repeated, or neither a text nor a whole number.
    """

    def __init__(self, ids: pl.Series, *, distinct: bool = False) -> None:
        self.ids: pl.Series = as_ids(ids).alias("id")
        if not distinct and self.ids.n_unique() < len(self.ids):
            repeated = self.ids.filter(self.ids.is_duplicated())[0]
            raise DataError(f"ids must be unique, got {repeated!r} more than once.")

    @classmethod
    def of(cls, ids: Iterable[Any]) -> "Vocabulary":
        """Collect the distinct ids, ascending: integers by value, texts by code point.

        >>> Vocabulary.of([10, 9, 10]).ids.to_list()
        [9, 10]
        """
        return cls(as_ids(ids).unique().sort(), distinct=True)

    @classmethod
    def union(cls, parts: Sequence["Vocabulary"]) -> "Vocabulary":
        """Return the ids of all parts, ascending; or, where all parts are equal, the first."""
        if all(part == parts[0] for part in parts):
            return parts[0]
        return cls.of(pl.concat(common_type([part.ids for part in parts])))

    def index(self, ids: Iterable[Any]) -> np.ndarray:
        """Return the index of every id, -1 for an unknown one.

        Args:
            ids: a list, array or series; texts are compared with integer ids by their value.

        Returns:
            `[len(ids)]` int64.

        >>> Vocabulary.of(["a", "b"]).index(["b", "?"])
        array([ 1, -1])
        """
        wanted = _convert(_series(ids), self.ids.dtype).alias("id").to_frame()
        found = wanted.join(self._places, on="id", how="left", maintain_order="left")["index"]
        return found.fill_null(-1).to_numpy(writable=True)

    def take(self, indices: np.ndarray) -> pl.Series:
        """Return the ids at these indices, each in `[0, len(self))`."""
        return self.ids.gather(pl.Series(indices, dtype=pl.Int64))

    def extend(self, ids: Iterable[Any]) -> "Vocabulary":
        """Return a vocabulary with the ids not yet known at the end, in the order they came in."""
        more = as_ids(ids)
        if not len(more):
            return self
        both = common_type([self.ids, more])
        return Vocabulary(
            pl.concat([series.alias("id") for series in both]).unique(maintain_order=True)
        )

    @cached_property
    def _places(self) -> pl.DataFrame:
        return self.ids.to_frame().with_row_index("index").cast({"index": pl.Int64})

    def __len__(self) -> int:
        return len(self.ids)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        if self is other:
            return True
        return self.ids.dtype == other.ids.dtype and self.ids.equals(other.ids)

    __hash__ = None  # type: ignore[assignment]  # compared by content

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} ids: {', '.join(map(repr, self.ids.head(3)))}, …)"


def as_ids(values: Iterable[Any]) -> pl.Series:
    """Convert ids to `Int64` or `String`.

    Integers of any width become `Int64`; so do floats that are all whole, since frames with
    missing values turn integers into floats on the way. Texts stay texts, whatever they look like.

    Raises:
        DataError: an id is missing, or neither a text nor a whole number.
    """
    series = _series(values)
    missing = series.is_null()
    if series.dtype.is_float():
        missing |= series.is_nan()
    if missing.any():
        place = missing.to_list().index(True)
        raise DataError(f"ids must not be missing, got {series[place]!r} at position {place}.")
    if series.dtype in (pl.String, pl.Int64):
        return series
    if series.dtype in (pl.Categorical, pl.Enum):
        return series.cast(pl.String)
    if not series.dtype.is_numeric() and series.dtype != pl.Null:
        raise DataError(f"ids must be texts or whole numbers, got the type {series.dtype}.")
    whole = series.cast(pl.Int64, strict=False)
    if whole.is_null().any() or (series.dtype.is_float() and (whole != series).any()):
        wrong = series.filter(whole.is_null() | (whole.cast(series.dtype) != series))[0]
        raise DataError(f"ids must be texts or whole numbers, got {wrong!r}.")
    return whole


def common_type(parts: list[pl.Series]) -> list[pl.Series]:
    """Return id series in one type: integers, or texts if any of them (not empty) is texts."""
    texts = any(part.dtype == pl.String and len(part) for part in parts)
    return [part.cast(pl.String if texts else pl.Int64) for part in parts]


def _series(values: Iterable[Any]) -> pl.Series:
    if isinstance(values, pl.Series):
        return values
    try:
        return pl.Series(values if isinstance(values, np.ndarray) else list(values))
    except (TypeError, OverflowError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"ids must be all texts or all whole numbers ({str(error).splitlines()[0]})."
        ) from None


def _convert(ids: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Cast ids to a vocabulary's type; what cannot be one of its ids becomes null."""
    if ids.dtype.is_float():
        ids = ids.set(ids != ids.floor(), None).cast(pl.Int64, strict=False)
    return ids.cast(dtype, strict=False)
