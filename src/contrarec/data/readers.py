"""Reading logs: files, frames and sparse matrices become one kind of frame."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np
import polars as pl

from contrarec.data.adjacency import read_adjacency
from contrarec.data.columns import ROW, ColumnNames, clean_columns, resolve_columns
from contrarec.data.delimited import read_delimited
from contrarec.data.interactions import Interactions
from contrarec.data.parquet import parquet_files, read_parquet, stream_parquet
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import DataError, unknown

if TYPE_CHECKING:
    from scipy.sparse import coo_matrix

SUFFIXES = (".txt", ".csv", ".tsv", ".inter", ".parquet")
"""Files that can be read: adjacency list, CSV, TSV, RecBole's atomic file, Parquet."""


def read_log(
    source: Any,
    *,
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    weight: str | None = None,
) -> pl.DataFrame:
    """Read an interaction log.

    Args:
        source: a path (`.txt` adjacency list, `.csv` or `.tsv` with a header, `.parquet`, RecBole's
            `.inter`), a polars, pandas or Arrow frame, or a scipy sparse matrix of users × items.
        user: name of the column with user ids; None looks for the
            usual names, see `columns.USUAL_NAMES`.
        item: name of the column with item ids; likewise.
        time: name of the column with times; likewise, and there may be none. Numbers stay as they
            are, dates become microseconds since 1970.
        weight: name of the column with weights; likewise. A matrix has its values as weights,
            unless all are 1.

    Returns:
        A frame with `user`, `item` and, where there are any, `time` and `weight`, in the order of
        the source, repeated pairs included.

    Raises:
        DataError: the source cannot be read, a column is not there, or a value is wrong; one line
            that starts with the file and the line number where there are any.
    """
    asked: ColumnNames = {"user": user, "item": item, "time": time, "weight": weight}
    if isinstance(source, str | Path):
        return _read_file(Path(source), asked)
    if _is_sparse(source):
        return _read_matrix(source.tocoo())
    return _read_frame(source, asked)


def read_interactions(source: Any, columns: ColumnNames) -> Interactions:
    """Read a log into vocabularies of its own.

    Args:
        source: what `read_log` can read, or `Interactions`, which stay as they are. Of a matrix,
            every row and column is in the vocabularies, also one without interactions.
        columns: names of columns, as for `read_log`.
    """
    if isinstance(source, Interactions):
        return source
    if isinstance(source, str | Path) and _is_parquet(Path(source)):
        with _readable(Path(source)):
            streamed = stream_parquet(Path(source), columns)
        if streamed is not None:
            return streamed
    log = read_log(source, **columns)
    if _is_sparse(source):
        users, items = (Vocabulary(pl.int_range(size, eager=True)) for size in source.shape)
    else:
        users, items = Vocabulary.of(log["user"]), Vocabulary.of(log["item"])
    return Interactions.from_pairs(
        users.index(log["user"]),
        items.index(log["item"]),
        users=users,
        items=items,
        **{name: log[name].to_numpy() for name in ("time", "weight") if name in log.columns},
    )


def frame_kind(source: Any) -> str:
    """Return the kind of frame to answer in: `pandas` or `pyarrow` if it is one, else `polars`."""
    frame = nw.from_native(source, pass_through=True)
    kind = frame.implementation.value if isinstance(frame, nw.DataFrame) else "polars"
    return kind if kind in ("pandas", "pyarrow") else "polars"


def _read_file(path: Path, asked: ColumnNames) -> pl.DataFrame:
    suffix = path.suffix.lower()
    with _readable(path):
        if _is_parquet(path):
            return read_parquet(path, asked)
        if suffix not in SUFFIXES:
            raise DataError(f"{path}: {unknown('file type', suffix, SUFFIXES)}.")
        if suffix != ".txt":
            return read_delimited(path, asked)
        for role, name in asked.items():
            if name is not None:
                raise DataError(f"{path}: an adjacency list has no columns: no {role} {name!r}.")
        return read_adjacency(path)


def _is_parquet(path: Path) -> bool:
    """Whether it is a Parquet file, or a folder of them."""
    if path.is_dir():
        return bool(parquet_files(path))
    return path.suffix.lower() == ".parquet"


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    if not path.is_file() and not (path.is_dir() and parquet_files(path)):
        raise DataError(f"{path}: no such file.")
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error


def _read_frame(source: Any, asked: ColumnNames) -> pl.DataFrame:
    try:
        frame = nw.from_native(source, pass_through=True)
    except nw.exceptions.NarwhalsError as error:
        raise DataError(f"a frame that cannot be read: {' '.join(str(error).split())}") from None
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    if not isinstance(frame, nw.DataFrame):
        raise DataError(
            "expected a path, a polars, pandas or Arrow frame or a scipy sparse matrix, "
            f"got {type(source).__name__}."
        )
    roles = resolve_columns(frame.columns, asked)
    columns = {role: _to_polars(frame[name]) for role, name in roles.items()}
    return clean_columns(
        pl.DataFrame(columns).with_row_index(ROW), roles, lambda row: f"row {row + 1}: "
    )


def _to_polars(column: nw.Series[Any]) -> pl.Series:
    """Convert a column without pyarrow, which a conversion as a whole would need."""
    if column.implementation.is_polars():
        return column.to_polars()
    missing = column.is_null()
    if not missing.any() and column.dtype.is_numeric():
        return pl.Series(column.to_numpy())
    pairs = zip(column.to_list(), missing.to_list(), strict=True)
    try:
        return pl.Series([None if is_null else value for value, is_null in pairs])
    except (TypeError, OverflowError, pl.exceptions.PolarsError):
        raise DataError(f"`{column.name}` must hold values of one type.") from None


def _is_sparse(source: Any) -> bool:
    """Whether it is a scipy matrix, which nothing is before scipy has been loaded."""
    scipy_sparse = sys.modules.get("scipy.sparse")
    return scipy_sparse is not None and bool(scipy_sparse.issparse(source))


def _read_matrix(matrix: "coo_matrix") -> pl.DataFrame:
    stored = matrix.data != 0
    frame = pl.DataFrame(
        {
            "user": matrix.row[stored].astype(np.int64),
            "item": matrix.col[stored].astype(np.int64),
            "weight": matrix.data[stored].astype(np.float64),
        }
    )
    if (frame["weight"] == 1).all():
        return frame.drop("weight")
    names = {"user": "row", "item": "column", "weight": "value"}
    return clean_columns(frame.with_row_index(ROW), names, lambda row: f"stored value {row + 1}: ")
