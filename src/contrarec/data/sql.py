"""Logs that a database holds: a query's result becomes a Parquet file, batch by batch.

ADBC's drivers hand over columns as they come from the server, so nothing is held as Python objects
and no more than a batch is in memory.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrarec.data.addresses import Address
from contrarec.data.columns import ColumnNames, resolve_columns
from contrarec.errors import BackendError, DataError

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 1 << 18
"""Rows of a row group of the file."""

_NOISE = re.compile(r"^[A-Z_]+: |\[libpq\] |\s*Query was:.*", re.DOTALL)
"""What the drivers say besides what is wrong."""


def write_query(address: Address, query: str, path: Path, asked: ColumnNames) -> int:
    """Write the log that a query returns as a Parquet file of `user`, `item`, `time`, `weight`.

    The transaction is rolled back afterwards. Memory is that of 262,144 rows and of a batch of the
    driver's (PostgreSQL: 16 MiB).

    Args:
        address: the database.
        query: one statement, in the database's own words.
        path: the file; its suffix does not matter.
        asked: names of the query's columns.

    Returns:
        How many rows there were.

    Raises:
        BackendError: the driver is not installed.
        DataError: the database cannot be reached, the query fails, or its result is no log.
    """
    if not query.strip():
        raise DataError("the query is empty.")
    connect = _load(address.driver).connect
    with (
        _blaming(address),
        connect(address.target) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(query)
        if cursor.description is None:
            raise DataError(f"{address.shown}: the query returns no table.")
        return _write(cursor.fetch_record_batch(), path, asked, address)


def _write(reader: Any, path: Path, asked: ColumnNames, address: Address) -> int:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    names = reader.schema.names
    if not names:
        raise DataError(f"{address.shown}: the query returns no table.")
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated:
        raise DataError(f"{address.shown}: the query returns {repeated!r} twice; name one anew.")
    roles = resolve_columns(names, asked, f"{address.shown}: ")
    fields = {role: reader.schema.field(name) for role, name in roles.items()}
    schema = pa.schema([(role, _plain(field, address)) for role, field in fields.items()])
    n_rows = 0
    with ParquetWriter(path, schema, compression="zstd") as file:
        for table in _gather(reader):
            columns = [_storage(table.column(name)) for name in roles.values()]
            file.write_table(pa.table(columns, schema=schema), row_group_size=_ROWS)
            n_rows += table.num_rows
    if not n_rows:
        raise DataError(f"{address.shown}: the query returns no rows.")
    return n_rows


def _gather(reader: Any) -> Iterator["pa.Table"]:
    """Yield the batches, small ones together: a row group for each of them would cost more."""
    import pyarrow as pa

    waiting: list[pa.RecordBatch] = []
    for batch in reader:
        waiting.append(batch)
        if sum(part.num_rows for part in waiting) >= _ROWS:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


def _plain(column: "pa.Field", address: Address) -> "pa.DataType":
    """Return the type of a column in the file: PostgreSQL's `numeric` is a text."""
    import pyarrow as pa

    kind = column.type
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_nested(kind):
        raise DataError(
            f"{address.shown}: the column {column.name!r} is of the type {column.type}; cast it in "
            f"the query: CAST({column.name} AS text)."
        )
    return kind


def _storage(column: "pa.ChunkedArray") -> "pa.ChunkedArray":
    import pyarrow as pa

    if not isinstance(column.type, pa.BaseExtensionType):
        return column
    chunks = [chunk.storage for chunk in column.chunks]
    return pa.chunked_array(chunks, type=column.type.storage_type)


def _load(driver: str) -> Any:
    try:
        import_module("pyarrow")  # the drivers hand over its batches
        return import_module(driver)
    except ImportError as error:
        raise BackendError(
            "reading from a database needs its ADBC driver and pyarrow: "
            f"pip install 'contrarec[sql]' ({error})."
        ) from error


@contextmanager
def _blaming(address: Address) -> Iterator[None]:
    from adbc_driver_manager import Error
    from pyarrow import ArrowException

    try:
        yield
    except (Error, ArrowException, OSError) as error:
        text = _NOISE.sub("", str(error))
        # from None: the driver's own message may hold the password
        raise DataError(f"{address.shown}: {address.hide(text).rstrip('.')}.") from None
