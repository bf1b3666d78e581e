"""The columns of a log: which one holds what, and their types."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

import polars as pl

from contrarec.data.vocabulary import as_ids
from contrarec.errors import DataError, unknown

USUAL_NAMES = {
    "user": ("user_id", "user", "userid", "uid"),
    "item": ("item_id", "item", "itemid", "iid"),
    "time": ("timestamp", "time", "ts"),
    "weight": ("weight",),
}
"""Column names, in lower case, that a role is found by when no name is given."""

ROW = "row number"
"""Column with the number of a row in its source."""

_DATE = re.compile(r"^\d{4}-\d\d-\d\d")
_TIME_RULE = "must be numbers or dates like 2024-05-31 or 2024-05-31T12:00:00"


class ColumnNames(TypedDict, total=False):
    """Names of the columns that hold what; None or left out: found by its usual names."""

    user: str | None
    item: str | None
    time: str | None
    weight: str | None


class _WrongRowError(Exception):
    """A row of a column is wrong."""

    def __init__(self, row: int, rule: str) -> None:
        super().__init__(rule)
        self.row = row


def resolve_columns(names: Sequence[str], asked: ColumnNames, where: str = "") -> dict[str, str]:
    """Return the column of `user`, `item` and, where there is one, of `time` and `weight`.

    Args:
        names: the columns there are.
        asked: the columns asked for.
        where: starts every error message.

    Raises:
        DataError: a column asked for is not there (the nearest is named), users or items have
            none of the usual names, or one column is asked for twice.
    """
    roles: dict[str, str] = {}
    for role, usual in USUAL_NAMES.items():
        name = asked.get(role)
        if isinstance(name, str):
            if name not in names:
                raise DataError(f"{where}{unknown('column', name, names)}.")
            if name in roles.values():
                raise DataError(f"{where}the column {name!r} is asked for twice.")
            roles[role] = name
            continue
        free = [n for n in names if n.lower() in usual and n not in asked.values()]
        found = sorted((usual.index(n.lower()), n) for n in free)
        if found:
            roles[role] = found[0][1]
        elif role in ("user", "item"):
            raise DataError(
                f"{where}no column is called {' or '.join(usual)}; say which one holds the "
                f"{role}s. Columns: {', '.join(names)}."
            )
    return roles


def clean_columns(
    frame: pl.DataFrame, names: Mapping[str, str], where: Callable[[int], str]
) -> pl.DataFrame:
    """Bring each column to its type.

    Ids become Int64 or String, times Int64 or Float64 (dates: microseconds since 1970, in UTC if
    they say their zone), weights Float64.

    Args:
        frame: a column for each role, and `ROW`.
        names: what each role's column is called in the source.
        where: turns a number from `ROW` into the start of an error message.

    Raises:
        DataError: a value is missing or wrong; its place and what it was are named.
    """
    columns = {}
    for role, name in names.items():
        values = frame[role]
        convert = {"time": _times, "weight": _weights}.get(role, _ids)
        try:
            columns[role] = convert(values)
        except _WrongRowError as wrong:
            value, place = values[wrong.row], where(int(frame[ROW][wrong.row]))
            missing = value in (None, "") or (isinstance(value, float) and math.isnan(value))
            fault = "is missing" if missing else f"{wrong}, got {value!r}"
            raise DataError(f"{place}`{name}` {fault}.") from None
        except DataError as error:
            raise DataError(f"`{name}` {error}") from None
    return pl.DataFrame(columns)


def _ids(values: pl.Series) -> pl.Series:
    rule = "must be texts or whole numbers"
    if values.dtype == pl.String:
        _refuse(values.is_null() | (values == ""), rule)
    elif values.dtype.is_numeric():
        whole = values.cast(pl.Int64, strict=False)
        _refuse(~(whole.cast(values.dtype) == values).fill_null(False), rule)
    else:
        _refuse(values.is_null(), rule)
        _require_type(values.dtype in (pl.Categorical, pl.Enum, pl.Null), values, rule)
    return as_ids(values)


def _times(values: pl.Series) -> pl.Series:
    _refuse(values.is_null(), _TIME_RULE)
    read = _written_times(values) if values.dtype == pl.String else values
    if read.dtype in (pl.Date, pl.Datetime):
        read = read.cast(pl.Datetime("us")).cast(pl.Int64)
    _require_type(read.dtype.is_numeric() or read.dtype == pl.Null, values, _TIME_RULE)
    _refuse(~read.cast(pl.Float64).is_finite().fill_null(False), _TIME_RULE)
    return read.cast(pl.Float64 if read.dtype.is_float() else pl.Int64)


def _written_times(values: pl.Series) -> pl.Series:
    """Read texts as what the first of them is, dates or numbers; what is neither becomes null."""
    if not (len(values) and _DATE.match(values[0] or "")):
        whole = values.cast(pl.Int64, strict=False)
        return values.cast(pl.Float64, strict=False) if whole.has_nulls() else whole
    # A form is inferred from the first, which only a date in ISO order decides without a doubt.
    dates = values.set(~values.str.contains(_DATE.pattern).fill_null(False), None)
    try:
        return dates.str.replace(" ", "T").str.to_datetime(time_unit="us", strict=False)
    except pl.exceptions.ComputeError:
        return pl.Series([None] * len(values), dtype=pl.Int64)


def _weights(values: pl.Series) -> pl.Series:
    rule = "must be finite numbers"
    _refuse(values.is_null(), rule)
    known = values.dtype.is_numeric() or values.dtype in (pl.String, pl.Boolean, pl.Null)
    _require_type(known, values, rule)
    numbers = values.cast(pl.Float64, strict=False)
    _refuse(~numbers.is_finite().fill_null(False), rule)
    return numbers


def _require_type(known: bool, values: pl.Series, rule: str) -> None:
    if not known:
        raise DataError(f"{rule}, got the type {values.dtype}.")


def _refuse(wrong: pl.Series, rule: str) -> None:
    if wrong.any():
        raise _WrongRowError(int(wrong.to_numpy().argmax()), rule)
