"""Ids and vectors in PostgreSQL, as tables that pgvector searches."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import polars as pl

from contrarec.errors import ConfigError, DataError
from contrarec.serving.export import Exported, load_package

DSN_VARIABLE = "CONTRAREC_DSN"
_MARK = "contrarec export "
_MOST_LETTERS = 40  # PostgreSQL cuts names off at 63 bytes; a suffix and an ending are added
_MOST_INDEXED = 2000  # dimensions of pgvector's HNSW
_BLOCK = 10_000  # rows that become text at a time


def to_postgres(
    exported: Exported, dsn: str | None = None, prefix: str = "contrarec"
) -> dict[str, Any]:
    """Write the tables `<prefix>_users` and `<prefix>_items`, in one transaction.

    Each has an id, the primary key, and a `vector`; that of the items has an HNSW index by inner
    product, so that `ORDER BY vector <#> …` finds the best. Readers see the old tables or the new
    ones. A table of the same name that no export made is not touched.

    Args:
        exported: ids and vectors.
        dsn: `postgresql://…` or `host=… dbname=…`; the environment's `CONTRAREC_DSN` if None, or
            else what libpq finds in its own (`PGHOST`, …).
        prefix: of the tables' names; may be quoted by no one but this function.

    Returns:
        What was written where, without the password.

    Raises:
        ConfigError: the prefix is empty or too long.
        BackendError: psycopg is not installed.
        DataError: the server refuses something; the message never has the password.
    """
    if not prefix or len(prefix.encode()) > _MOST_LETTERS or "\0" in prefix:
        raise ConfigError(f"`table` must be 1 to {_MOST_LETTERS} bytes, got {prefix!r}.")
    psycopg = load_package("psycopg", "pgvector", "writing to PostgreSQL")
    tables = []
    with _connection(psycopg, os.environ.get(DSN_VARIABLE, "") if dsn is None else dsn) as open_:
        _require_extension(open_)
        for side in ("user", "item"):
            tables.append(f"{prefix}_{side}s")
            _replace_table(psycopg.sql, open_, exported, side, tables[-1])
        where = {"host": open_.info.host, "database": open_.info.dbname}
    return {"format": "pgvector", **exported.about(), **where, "tables": tables}


@contextmanager
def _connection(psycopg: Any, dsn: str) -> Iterator[Any]:
    """Connect, and commit at the end; errors are told without the connection string."""
    try:
        parts = psycopg.conninfo.conninfo_to_dict(dsn)
    except psycopg.Error:  # its text quotes the string
        raise DataError(
            "the connection string must be postgresql://USER:PASSWORD@HOST/DATABASE or "
            "host=HOST dbname=DATABASE; it cannot be read and is not shown."
        ) from None
    password = parts.get("password") or os.environ.get("PGPASSWORD")
    try:
        with psycopg.connect(dsn) as connection:
            yield connection
    except psycopg.Error as error:
        text = " ".join(str(error).split())
        text = text.replace(password, "***") if password else text
        raise DataError(f"PostgreSQL: {text}") from None


def _require_extension(connection: Any) -> None:
    there = connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone()
    if there is None:
        connection.execute("CREATE EXTENSION vector")


def _replace_table(sql: Any, connection: Any, exported: Exported, side: str, name: str) -> None:
    """Fill a new table, and give it the place of the old one."""
    _refuse_foreign(connection, name)
    table = exported.table(side)
    fresh = sql.Identifier(f"{name}_{secrets.token_hex(4)}")
    key, final = sql.Identifier(f"{side}_id"), sql.Identifier(name)
    number = table.schema[f"{side}_id"] == pl.Int64
    dim = exported.items.shape[1]

    def run(text: str, *parts: Any) -> None:
        connection.execute(sql.SQL(text).format(*parts))

    kind = sql.SQL("bigint" if number else "text")
    run(f"CREATE TABLE {{}} ({{}} {{}} NOT NULL, vector vector({dim}))", fresh, key, kind)
    copy = sql.SQL("COPY {} FROM STDIN (FORMAT csv)").format(fresh)
    with connection.cursor().copy(copy) as stream:
        for start in range(0, len(table), _BLOCK):
            stream.write(_csv(table[start : start + _BLOCK]))
    run("ALTER TABLE {} ADD PRIMARY KEY ({})", fresh, key)
    if side == "item" and dim <= _MOST_INDEXED:
        run("CREATE INDEX ON {} USING hnsw (vector vector_ip_ops)", fresh)
    about = json.dumps(exported.about(), ensure_ascii=False)
    run("COMMENT ON TABLE {} IS {}", fresh, sql.Literal(_MARK + about))
    run("DROP TABLE IF EXISTS {}", final)
    run("ALTER TABLE {} RENAME TO {}", fresh, final)


def _refuse_foreign(connection: Any, name: str) -> None:
    """Raise if there is a table, or anything else, of this name that no export made."""
    found = connection.execute(
        "SELECT obj_description(c.oid, 'pg_class') FROM pg_class c "
        "WHERE c.relname = %s AND c.relnamespace = current_schema()::regnamespace",
        [name],
    ).fetchone()
    if found is not None and not (found[0] or "").startswith(_MARK):
        raise DataError(
            f"PostgreSQL: {name!r} is there already and was not made by an export; choose another "
            "name (--table)."
        )


def _csv(table: pl.DataFrame) -> str:
    """Return rows as CSV, every text quoted; float32 are written so that they are read the same."""
    key = table.columns[0]
    numbers = pl.col("vector").cast(pl.List(pl.String)).list.join(",")
    rows = table.select(key, pl.format("[{}]", numbers).alias("vector"))
    return rows.write_csv(include_header=False, quote_style="non_numeric")
