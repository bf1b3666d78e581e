"""Reading logs: files, frames and sparse matrices become one kind of frame.

Every reader gives a polars frame with the columns `user` and `item` (Int64 or String), and `time`
(Int64 or Float64) and `weight` (Float64) where there are any. Fast paths are vectorised; a line
number is looked for only once something is known to be wrong.
"""

import csv
import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypedDict

import narwhals as nw
import numpy as np
import polars as pl
from scipy.sparse import coo_matrix, issparse

from contrarec.data.adjacency import read_adjacency
from contrarec.data.vocabulary import as_ids
from contrarec.errors import DataError, unknown

USUAL_NAMES = {
    "user": ("user_id", "user", "userid", "uid"),
    "item": ("item_id", "item", "itemid", "iid"),
    "time": ("timestamp", "time", "ts"),
    "weight": ("weight",),
}
"""Column names, in lower case, that a role is found by when no name is given."""

SUFFIXES = (".txt", ".csv", ".tsv", ".inter", ".parquet")
"""Files that can be read: adjacency list, CSV, TSV, RecBole's atomic file, Parquet."""


class ColumnNames(TypedDict, total=False):
    """Names of the columns that hold what; None or none: found by its usual names."""

    user: str | None
    item: str | None
    time: str | None
    weight: str | None


_ROW = "row number"
Where = Callable[[int], str]


class _WrongRowError(Exception):
    """Row `row` of a frame is wrong; the reader knows how to name the place."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


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
        user: name of the column with user ids; None looks for the `USUAL_NAMES`.
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
            that starts with the file and the line number.
    """
    asked = {"user": user, "item": item, "time": time, "weight": weight}
    if isinstance(source, str | Path):
        return _read_file(Path(source), asked)
    if issparse(source):
        return _read_matrix(source.tocoo())
    return _read_frame(source, asked)


def frame_kind(source: Any) -> str:
    """Return the kind of frame to answer in: `pandas` or `pyarrow` if it is one, else `polars`."""
    frame = nw.from_native(source, pass_through=True)
    kind = frame.implementation.value if isinstance(frame, nw.DataFrame) else "polars"
    return kind if kind in ("pandas", "pyarrow") else "polars"


def _read_file(path: Path, asked: dict[str, str | None]) -> pl.DataFrame:
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: {unknown('file type', suffix, SUFFIXES)}.")
    try:
        if suffix == ".parquet":
            return _read_parquet(path, asked)
        if suffix != ".txt":
            return _read_delimited(path, asked, "," if suffix == ".csv" else "\t")
        named = [name for name in asked.values() if name is not None]
        if named:
            raise DataError(f"{path}: an adjacency list has no columns, so no {named[0]!r}.")
        return read_adjacency(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error


def _read_delimited(path: Path, asked: dict[str, str | None], separator: str) -> pl.DataFrame:
    inter = path.suffix.lower() == ".inter"
    options: dict[str, Any] = {
        "separator": separator,
        "quote_char": None if inter else '"',
        "infer_schema": False,
    }
    try:
        header = pl.read_csv(path, n_rows=0, **options).columns
        plain = {name.partition(":")[0] if inter else name: name for name in header}
        roles = _resolve(list(plain), asked, f"{path}:1: ")
        used = {plain[name]: role for role, name in roles.items()}
        frame = pl.read_csv(path, columns=list(used), **options).rename(used)
    except pl.exceptions.NoDataError:
        raise DataError(f"{path}:1: the file is empty, expected a header.") from None
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        reason = _complaint(path, separator, inter) or f": {str(error).splitlines()[0]}"
        raise DataError(f"{path}{reason}") from None
    frame = frame.with_row_index(_ROW)
    if frame["user"].has_nulls():  # blank lines are rows of nulls to polars
        blank = [n for n, (_, record) in enumerate(_records(path, separator, inter)) if not record]
        frame = frame.filter(~pl.col(_ROW).is_in(blank))

    def where(row: int) -> str:
        lines = [line for line, _ in _records(path, separator, inter)]
        return f"{path}:{lines[row]}: "

    texts = frame.with_columns(_whole_numbers(frame[role]) for role in ("user", "item"))
    return _clean(texts, roles, where)


def _records(path: Path, separator: str, inter: bool) -> Iterator[tuple[int, list[str]]]:
    """Yield the line each data record starts at, and its fields; the slow way to read."""
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.reader(
            file,
            delimiter=separator,
            quoting=csv.QUOTE_NONE if inter else csv.QUOTE_MINIMAL,
            strict=True,
        )
        next(reader, None)
        line = reader.line_num + 1
        for record in reader:
            yield line, record
            line = reader.line_num + 1


def _complaint(path: Path, separator: str, inter: bool) -> str | None:
    """Say where a delimited file cannot be split into records, as `:line: what is wrong`."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        width = next(file, "").count(separator) + 1  # only wrong if a name has a separator in it
    line = 1
    try:
        for line, record in _records(path, separator, inter):
            if any("\udc80" <= symbol <= "\udcff" for field in record for symbol in field):
                return f":{line}: not UTF-8."
            if record and len(record) != width:
                return f":{line}: expected {width} fields, got {len(record)}."
    except csv.Error as error:
        return f":{line + 1}: {error}."
    return None


def _whole_numbers(ids: pl.Series) -> pl.Series:
    """Return texts as Int64 if every one is how an integer is written; `007` stays a text."""
    numbers = ids.cast(pl.Int64, strict=False)
    written = (numbers.cast(pl.String) == ids).fill_null(False)
    return numbers if (written | ids.is_null()).all() else ids


def _read_parquet(path: Path, asked: dict[str, str | None]) -> pl.DataFrame:
    try:
        roles = _resolve(list(pl.read_parquet_schema(path)), asked, f"{path}: ")
        frame = pl.read_parquet(path, columns=list(roles.values()))
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not a sound Parquet file ({reason}).") from None
    renamed = frame.select(pl.col(name).alias(role) for role, name in roles.items())
    return _clean(renamed.with_row_index(_ROW), roles, lambda row: f"{path}: row {row + 1}: ")


def _read_frame(source: Any, asked: dict[str, str | None]) -> pl.DataFrame:
    native = nw.from_native(source, pass_through=True)
    if isinstance(native, nw.LazyFrame):
        native = native.collect()
    if not isinstance(native, nw.DataFrame):
        raise DataError(
            "expected a path, a polars, pandas or Arrow frame or a scipy sparse matrix, "
            f"got {type(source).__name__}."
        )
    roles = _resolve(native.columns, asked, "")
    columns = {role: _to_polars(native[name]) for role, name in roles.items()}
    return _clean(pl.DataFrame(columns).with_row_index(_ROW), roles, lambda row: f"row {row}: ")


def _to_polars(column: nw.Series[Any]) -> pl.Series:
    if column.implementation.is_polars():
        return column.to_polars()
    if column.dtype.is_numeric() and not column.is_null().any():
        return pl.Series(column.to_numpy())
    try:
        return pl.Series(column.to_list())  # needs no pyarrow, unlike a conversion as a whole
    except (TypeError, pl.exceptions.PolarsError):
        raise DataError(f"`{column.name}` must hold values of one type.") from None


def _read_matrix(matrix: coo_matrix) -> pl.DataFrame:
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
    roles = {"user": "row", "item": "column", "weight": "value"}
    return _clean(frame.with_row_index(_ROW), roles, lambda row: f"stored value {row}: ")


def _resolve(names: list[str], asked: dict[str, str | None], where: str) -> dict[str, str]:
    """Return the column of each role that has one."""
    roles = {}
    for role, name in asked.items():
        if name is not None:
            if name not in names:
                raise DataError(f"{where}{unknown('column', name, names)}.")
            roles[role] = name
            continue
        usual = [known for known in names if known.lower() in USUAL_NAMES[role]]
        if usual:
            roles[role] = min(usual, key=lambda known: USUAL_NAMES[role].index(known.lower()))
        elif role in ("user", "item"):
            raise DataError(
                f"{where}no column is called {' or '.join(USUAL_NAMES[role])}; say which one holds "
                f"the {role}s. Columns: {', '.join(names)}."
            )
    if len(set(roles.values())) < len(roles):
        twice = next(name for name in roles.values() if list(roles.values()).count(name) > 1)
        raise DataError(f"{where}the column {twice!r} is asked for in two roles.")
    return roles


def _clean(frame: pl.DataFrame, names: dict[str, str], where: Where) -> pl.DataFrame:
    """Bring the columns to their types; a wrong value is named with its place."""
    columns = {}
    for role, name in names.items():
        convert = {"time": _times, "weight": _weights}.get(role, _ids)
        try:
            columns[role] = convert(frame[role])
        except _WrongRowError as wrong:
            value = frame[role][wrong.row]
            place = where(int(frame[_ROW][wrong.row]))
            got = "is missing" if value is None or value == "" else f"{wrong}, got {value!r}"
            raise DataError(f"{place}`{name}` {got}.") from None
        except DataError as error:
            raise DataError(f"`{name}`: {error}") from None
    return pl.DataFrame(columns)


def _ids(values: pl.Series) -> pl.Series:
    if values.dtype == pl.String:
        _refuse(values.is_null() | (values == ""), "")
    elif values.dtype.is_numeric():
        whole = values.cast(pl.Int64, strict=False)
        sound = (whole.cast(values.dtype) == values).fill_null(False)
        _refuse(~sound, "must be whole numbers or texts")
    else:
        _refuse(values.is_null(), "")
    return as_ids(values)


def _times(values: pl.Series) -> pl.Series:
    rule = "must be numbers or dates like 2024-05-31 or 2024-05-31T12:00:00"
    if values.dtype == pl.String:
        values = _written_times(values)
    if values.dtype in (pl.Date, pl.Datetime):
        values = values.cast(pl.Datetime("us")).cast(pl.Int64)
    if not values.dtype.is_numeric():
        raise DataError(f"times {rule}, got the type {values.dtype}.")
    _refuse(~values.cast(pl.Float64, strict=False).is_finite().fill_null(False), rule)
    return values.cast(pl.Float64 if values.dtype.is_float() else pl.Int64)


def _written_times(values: pl.Series) -> pl.Series:
    """Convert texts to times by the form of the first; what has another form becomes null."""
    if len(values) and _is_date(values[0]):
        try:
            dates = values.str.to_datetime(time_unit="us", strict=False)
        except pl.exceptions.PolarsError:
            return values.cast(pl.Int64, strict=False)
        return dates.dt.replace_time_zone(None) if dates.dtype.time_zone else dates  # type: ignore[attr-defined]
    whole = values.cast(pl.Int64, strict=False)
    return values.cast(pl.Float64, strict=False) if whole.has_nulls() else whole


def _is_date(text: str | None) -> bool:
    try:
        return text is not None and not text.isdigit() and bool(dt.datetime.fromisoformat(text))
    except ValueError:
        return False


def _weights(values: pl.Series) -> pl.Series:
    numbers = values.cast(pl.Float64, strict=False)
    _refuse(~numbers.is_finite().fill_null(False), "must be finite numbers")
    return numbers


def _refuse(wrong: pl.Series, rule: str) -> None:
    if wrong.any():
        raise _WrongRowError(wrong.to_numpy().argmax().item(), rule)
