"""Text tables: CSV, TSV and RecBole's `.inter` files.

polars reads them. Line numbers it does not tell: when something is wrong, the file is read once
more, slowly, with the standard library.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from contrarec.data.columns import ROW, ColumnNames, clean_columns, resolve_columns
from contrarec.errors import DataError


@dataclass(frozen=True)
class _Form:
    """How a text table is written."""

    separator: str
    quoted: bool = True
    typed: bool = False
    """Whether column names end in a type, as in `user_id:token`."""


_FORMS = {
    ".csv": _Form(","),
    ".tsv": _Form("\t"),
    ".inter": _Form("\t", quoted=False, typed=True),
}


def read_delimited(path: Path, asked: ColumnNames) -> pl.DataFrame:
    """Read a `.csv`, `.tsv` or `.inter` file with a header; blank lines are skipped.

    Ids that are all written as integers are (`007` is not how 7 is written, so with it they all
    stay texts).

    Args:
        path: the file, in UTF-8.
        asked: names of columns; for `.inter` without their types.

    Raises:
        DataError: the file, a column or a value is wrong; the message has the line number.
    """
    form = _FORMS[path.suffix.lower()]
    try:
        header = _read(path, form, n_rows=0).columns
        plain = {name.partition(":")[0] if form.typed else name: name for name in header}
        roles = resolve_columns(list(plain), asked, f"{path}:1: ")
        used = {plain[name]: role for role, name in roles.items()}
        frame = _read(path, form, columns=list(used)).rename(used).with_row_index(ROW, offset=1)
    except pl.exceptions.NoDataError:
        raise DataError(f"{path}:1: the file is empty, expected a header.") from None
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{path}:{_complaint(path, form) or f' {str(error).splitlines()[0]}'}"
        ) from None
    if frame["user"].has_nulls():  # polars takes a blank line for a row of nulls
        blank = [row for row, (_, fields) in enumerate(_records(path, form)) if not fields]
        frame = frame.filter(~pl.col(ROW).is_in(blank))

    def where(row: int) -> str:
        lines = [line for line, _ in _records(path, form)]
        return f"{path}:{lines[row]}: "

    ids = [_integers(frame[role]) for role in ("user", "item")]
    return clean_columns(frame.with_columns(ids), roles, where)


def _read(
    path: Path, form: _Form, *, n_rows: int | None = None, columns: list[str] | None = None
) -> pl.DataFrame:
    return pl.read_csv(
        path,
        separator=form.separator,
        quote_char='"' if form.quoted else None,
        infer_schema=False,  # all texts: an id is never a float or a date by accident
        n_rows=n_rows,
        columns=columns,
    )


def _integers(ids: pl.Series) -> pl.Series:
    numbers = ids.cast(pl.Int64, strict=False)
    written = (numbers.cast(pl.String) == ids).fill_null(False)
    return numbers if (written | ids.is_null()).all() else ids


def _records(path: Path, form: _Form) -> Iterator[tuple[int, list[str]]]:
    """Yield for the header and each record the line it starts at, and its fields."""
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.reader(
            file,
            delimiter=form.separator,
            quoting=csv.QUOTE_MINIMAL if form.quoted else csv.QUOTE_NONE,
            strict=True,
        )
        line = 1
        for fields in reader:
            yield line, fields
            line = reader.line_num + 1


def _complaint(path: Path, form: _Form) -> str | None:
    """Say where a file cannot be split into records: `line: what is wrong`."""
    line, width = 0, None
    try:
        for line, fields in _records(path, form):
            width = len(fields) if width is None else width
            if any("\udc80" <= symbol <= "\udcff" for field in fields for symbol in field):
                return f"{line}: not UTF-8."
            if len(fields) > width:
                return f"{line}: expected {width} fields, got {len(fields)}."
    except csv.Error as error:
        return f"{line + 1}: {error}."
    return None
