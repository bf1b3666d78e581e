"""Given vectors of items: a matrix and the ids of its rows, read and checked.

- `.npy`: a matrix; the ids of its rows are in a text file, one a line.
- `.parquet`: a column of item ids (found by its usual names), and either one column of lists or any
  number of numeric columns.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from contrarec.data.columns import USUAL_NAMES
from contrarec.data.vocabulary import Vocabulary, as_ids
from contrarec.errors import DataError

_SHOWN = 5  # ids that a message names


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemFeatures:
    """Vectors of items, whether or not anyone has had them.

    Raises:
        DataError: there is nothing, or an id is repeated or its vector is zero or not finite.
    """

    ids: pl.Series
    """`[n]`, texts or whole numbers."""
    matrix: np.ndarray
    """`[n, width]` float32; a row per id."""
    where: str
    """Starts error messages: the file."""

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or not self.matrix.size:
            raise DataError(
                f"{self.where}: item vectors must be a matrix with at least one row and one "
                f"column, got the shape {self.matrix.shape}."
            )
        if len(self.ids) != len(self.matrix):
            raise DataError(
                f"{self.where}: item ids must be as many as the {len(self.matrix)} rows of the "
                f"matrix, got {len(self.ids)}."
            )
        self._refuse(self.ids.is_duplicated().to_numpy(), "item ids must be unique, got more of")
        wrong = ~np.isfinite(self.matrix).all(1)
        self._refuse(wrong, "item vectors must be finite, got a missing or infinite number for")
        zero = np.abs(self.matrix).max(axis=1) == 0
        self._refuse(zero, "item vectors must not be zero throughout, as that of")

    def matched(self, items: Vocabulary) -> "ItemFeatures":
        """Return the same with ids of a vocabulary's type, which must all be there.

        Raises:
            DataError: an id cannot be one of that type, or an item of the vocabulary has no vector.
        """
        ids = self.ids.cast(items.ids.dtype, strict=False)
        rule = "item ids must be whole numbers, as in the data, unlike"
        self._refuse(ids.is_null().to_numpy(), rule)
        same = replace(self, ids=ids)
        missing = items.ids.filter(~items.ids.is_in(ids.implode()))
        if len(missing):
            raise DataError(f"{self.where}: no vector for the item {_named(missing)} of the data.")
        return same

    def of(self, items: Vocabulary) -> np.ndarray:
        """Return the vectors of items, `[len(items), width]`, in their order; all must be there."""
        rows: np.ndarray = self.matrix[Vocabulary(self.ids, distinct=True).index(items.ids)]
        return rows

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that depend on the ids, the vectors and their order."""
        digest = hashlib.sha256("\n".join(self.ids.cast(pl.String)).encode())
        digest.update(f"\n{self.matrix.shape}".encode())
        digest.update(np.ascontiguousarray(self.matrix, "<f4").data)
        return digest.hexdigest()[:16]

    def _refuse(self, wrong: np.ndarray, rule: str) -> None:
        if wrong.any():
            named = _named(self.ids.filter(pl.Series(wrong)).unique(maintain_order=True))
            raise DataError(f"{self.where}: {rule} {named}.")


def read_features(path: str | Path, ids: str | Path | None = None) -> ItemFeatures:
    """Read item vectors.

    Args:
        path: a `.npy` or a `.parquet` file.
        ids: the ids of a `.npy` file's rows, a text file with one a line; if None (or empty) the
            one beside it, `items.txt` for `items.npy`.

    Raises:
        DataError: a file is not there or broken, or its content is refused; see `ItemFeatures`.
    """
    path, suffix = Path(path), Path(path).suffix.lower()
    if suffix not in (".npy", ".parquet"):
        raise DataError(f"{path}: item vectors must be a .npy or a .parquet file.")
    if ids and suffix == ".parquet":
        raise DataError(f"{path}: has a column of ids and takes no list of them, got {ids}.")
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    if suffix == ".parquet":
        return _read_parquet(path)
    return ItemFeatures(
        ids=_read_ids(Path(ids) if ids else path.with_suffix(".txt")),
        matrix=_numbers(_read_matrix(path), str(path)),
        where=str(path),
    )


def _read_matrix(path: Path) -> np.ndarray:
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not a sound .npy file of numbers ({reason}).") from None


def _read_ids(path: Path) -> pl.Series:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(
            f"{path}: no list of the item ids, one a line ({error.strerror})."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text.") from error
    ids = [line.strip() for line in lines]
    if "" in ids:
        raise DataError(f"{path}:{ids.index('') + 1}: expected an item id, got an empty line.")
    return pl.Series(ids, dtype=pl.String)


def _read_parquet(path: Path) -> ItemFeatures:
    try:
        frame = pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not a sound Parquet file ({reason}).") from None
    usual = USUAL_NAMES["item"]
    column = min(
        (name for name in frame.columns if name.lower() in usual),
        key=lambda name: usual.index(name.lower()),
        default=None,
    )
    if column is None:
        raise DataError(
            f"{path}: no column is called {' or '.join(usual)}; columns: "
            f"{', '.join(frame.columns)}."
        )
    try:
        ids = as_ids(frame[column])
    except DataError as error:
        raise DataError(f"{path}: `{column}`: {error}") from None
    values = frame.drop(column)
    kinds = values.dtypes
    if len(kinds) == 1 and isinstance(kinds[0], pl.List | pl.Array):
        matrix = _stacked(ids, values.to_series(), str(path))
    elif kinds and all(kind.is_numeric() for kind in kinds):
        matrix = _numbers(values.cast(pl.Float32).to_numpy(), str(path))
    else:
        got = ", ".join(f"`{name}` {kind}" for name, kind in values.schema.items()) or "none"
        raise DataError(
            f"{path}: beside `{column}` must be one column of lists or numeric columns, got {got}."
        )
    return ItemFeatures(ids=ids, matrix=matrix, where=str(path))


def _stacked(ids: pl.Series, lists: pl.Series, where: str) -> np.ndarray:
    """Make a matrix of a column of lists; a missing number becomes NaN."""
    if isinstance(lists.dtype, pl.Array):
        lists = lists.arr.to_list()
    lengths = lists.list.len().fill_null(0)
    width = int(np.bincount(lengths.to_numpy()).argmax()) if len(lengths) else 0
    wrong = ids.filter(lengths != width)
    if len(wrong):
        raise DataError(
            f"{where}: item vectors must all have the same width, got {width} for most and another "
            f"for {_named(wrong)}."
        )
    if not width:
        return np.empty((len(lists), 0), np.float32)
    return _numbers(lists.explode().to_numpy(), where).reshape(len(lists), width)


def _numbers(values: np.ndarray, where: str) -> np.ndarray:
    """Convert to float32; what is too large for it becomes infinite, and is refused later."""
    if values.dtype.kind not in "fiu":
        raise DataError(f"{where}: item vectors must be numbers, got the type {values.dtype}.")
    with np.errstate(over="ignore"):
        return np.array(values, np.float32)


def _named(ids: pl.Series) -> str:
    shown = ", ".join(map(repr, ids.head(_SHOWN)))
    more = len(ids) - _SHOWN
    return shown + (f" and {more} more" if more > 0 else "")
