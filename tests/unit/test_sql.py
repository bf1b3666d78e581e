"""Logs out of databases: a PostgreSQL on loopback, and SQLite files."""

import sqlite3
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import polars as pl
import pytest
from pyarrow.parquet import ParquetFile

import contrarec as cr
from contrarec.data.addresses import parse_address
from contrarec.data.sql import write_query
from contrarec.errors import BackendError, DataError
from postgres import PASSWORD

dbapi = pytest.importorskip("adbc_driver_postgresql.dbapi")

EVENTS = """
    SELECT * FROM (VALUES
        ('ann', 7::bigint, TIMESTAMPTZ '2024-05-31 12:00:00+02', 4.5::numeric),
        ('bob', 8, TIMESTAMPTZ '2024-05-31 10:00:01+00', 1),
        ('ann', 9, TIMESTAMPTZ '2024-06-01 00:00:00+00', 2)
    ) AS events (who, what, at, rating)
"""


class TestPostgres:
    def test_a_query_is_a_log(self, postgres_uri: str) -> None:
        data = cr.Dataset.from_sql(
            postgres_uri, EVENTS, user="who", item="what", time="at", weight="rating"
        )
        train = data.train
        assert train.users.ids.to_list() == ["ann", "bob"]
        assert train.items.ids.to_list() == [7, 8, 9]
        assert list(zip(train.rows.tolist(), train.indices.tolist(), strict=True)) == [
            (0, 0), (0, 2), (1, 1),
        ]  # fmt: skip
        assert train.time is not None
        assert train.weight is not None
        noon = 1_717_149_600_000_000  # 2024-05-31T10:00:00Z
        assert train.time.tolist() == [noon, 1_717_200_000_000_000, noon + 1_000_000]
        assert train.weight.tolist() == [4.5, 2, 1]

    def test_no_password_is_kept(self, postgres_uri: str) -> None:
        assert PASSWORD in postgres_uri
        data = cr.Dataset.from_sql(postgres_uri, "SELECT 1 AS user_id, 2 AS item_id")
        assert data.path == postgres_uri.replace(f":{PASSWORD}", "")
        assert data.name == "postgres"
        assert PASSWORD not in repr(data) + repr(vars(data)) + repr(parse_address(postgres_uri))
        named = cr.Dataset.from_sql(postgres_uri, "SELECT 1 AS uid, 2 AS iid", name="shop")
        assert named.name == "shop"

    @pytest.mark.parametrize(
        ("query", "says"),
        [
            ("SELECT * FROM nowhere", 'relation "nowhere" does not exist'),
            ("SELECT 1 AS user_id", "say which one holds the items. Columns: user_id"),
            ("SELECT 1 AS user_id, 2 AS user_id", "returns 'user_id' twice"),
            ("SELECT 1 AS user_id, gen_random_uuid() AS item_id", "CAST(item_id AS text)"),
            ("SELECT 1 AS user_id, 2 AS item_id WHERE false", "returns no rows"),
            ("CREATE TABLE made (a int)", "returns no table"),
            ("SELECT 1; SELECT 2", "multiple commands"),
            ("  ", "the query is empty"),
            ("SELECT n AS uid, nullif(n, 7) AS iid FROM generate_series(1, 9) n", "row 7: `item`"),
            ("SELECT n AS uid, 1 / (n - 9000) AS iid FROM generate_series(1, 9999) n", "by zero"),
        ],
    )
    def test_errors_are_one_line(self, postgres_uri: str, query: str, says: str) -> None:
        with pytest.raises(DataError) as caught:
            cr.Dataset.from_sql(postgres_uri, query)
        message = str(caught.value)
        assert says in message
        assert "\n" not in message
        assert "Query was" not in message
        assert PASSWORD not in message
        assert "query.parquet" not in message

    def test_nothing_stays_in_the_database(self, postgres_uri: str) -> None:
        with pytest.raises(DataError, match="returns no table"):
            cr.Dataset.from_sql(postgres_uri, "CREATE TABLE stayed (a int)")
        with pytest.raises(DataError, match='"stayed" does not exist'):
            cr.Dataset.from_sql(postgres_uri, "SELECT * FROM stayed")

    def test_a_wrong_password_is_not_shown(self, postgres_uri: str) -> None:
        with pytest.raises(DataError, match="authentication failed") as caught:
            cr.Dataset.from_sql(postgres_uri.replace(PASSWORD, "hunter2"), "SELECT 1")
        assert "hunter2" not in str(caught.value)
        assert caught.value.__cause__ is None  # the driver's own error may have it
        assert caught.value.__suppress_context__

    def test_a_large_result_comes_in_batches(
        self, postgres_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("contrarec.data.sql._ROWS", 1 << 15)
        n = 100_000
        columns = "n::bigint AS uid, n % 1000 AS iid, 0.5 AS weight"
        query = f"SELECT {columns} FROM generate_series(1, {n}) n"
        tracemalloc.start()
        written = write_query(parse_address(postgres_uri), query, tmp_path / "log", {})
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert written == n
        assert peak < 2e6  # no rows as Python objects
        read = pl.read_parquet(tmp_path / "log")
        assert read["user"].sum() == n * (n + 1) // 2
        assert read.columns == ["user", "item", "weight"]
        assert ParquetFile(tmp_path / "log").num_row_groups == 4


class TestAddresses:
    @pytest.mark.parametrize(
        ("uri", "shown"),
        [
            ("postgresql://ann:hunter2@db:5432/shop", "postgresql://ann@db:5432/shop"),
            ("postgres://ann:hunter2@db/shop", "postgres://ann@db/shop"),
            ("postgresql://ann:hunt%40er@db/shop", "postgresql://ann@db/shop"),
            ("postgresql://ann:hunter2@[::1]/shop", "postgresql://ann@[::1]/shop"),
            ("postgresql://:hunter2@db/shop", "postgresql://db/shop"),
            ("postgresql:///shop?host=/run/pg", "postgresql:///shop?host=%2Frun%2Fpg"),
            (
                "postgresql://db/shop?password=hunter2&sslmode=require&sslpassword=hunter3",
                "postgresql://db/shop?sslmode=require",
            ),
        ],
    )
    def test_shown_without_a_password(self, uri: str, shown: str) -> None:
        address = parse_address(uri)
        assert address.shown == shown
        assert address.target == uri
        assert address.name == "shop"
        secrets = [word for word in ("hunter2", "hunter3", "hunt%40er") if word in uri]
        said = address.hide(f"no {secrets},\n{[unquote(word) for word in secrets]}")
        assert "hunt" not in said
        assert "\n" not in said

    @pytest.mark.parametrize(
        "uri",
        [
            "postgresql://ann:hun@ter2@db/shop",
            "postgresql://ann:hun/ter2@db/shop",
            "postgresql://ann:hun?ter2@db/shop",
            "postgresql://ann:hun#ter2@db/shop",
            "postgresql://ann:hunter2@[::1/shop",
            "mysql://ann:hunter2@db/shop",
            "host=db password=hunter2",
        ],
    )
    def test_what_a_driver_would_misread_is_refused_and_not_shown(self, uri: str) -> None:
        with pytest.raises(DataError) as caught:
            parse_address(uri)
        assert "hun" not in str(caught.value)
        assert "ter2" not in str(caught.value)

    def test_what_the_driver_repeats_is_hidden(self) -> None:
        with pytest.raises(DataError, match=r"invalid percent-encoded token: \"\*\*\*\"") as caught:
            cr.Dataset.from_sql("postgresql://ann:hun%zzter@localhost:1/x", "SELECT 1")
        assert "hun" not in str(caught.value)


class TestSQLite:
    @pytest.fixture
    def make(self, tmp_path: Path) -> Callable[[list[tuple[object, object]]], str]:
        """Write rows into a file's table `log`, and tell its address."""

        def write(rows: list[tuple[object, object]]) -> str:
            with sqlite3.connect(tmp_path / "log.db") as connection:
                connection.execute("CREATE TABLE log (who, what)")
                connection.executemany("INSERT INTO log VALUES (?, ?)", rows)
            connection.close()
            return f"sqlite:///{tmp_path / 'log.db'}"

        return write

    def test_a_file(self, make: Callable[[list[tuple[object, object]]], str]) -> None:
        uri = make([("ann", n) for n in range(3000)])
        data = cr.Dataset.from_sql(uri, "SELECT * FROM log", user="who", item="what")
        assert (data.n_users, data.n_items, data.train.nnz) == (1, 3000, 3000)
        assert (data.name, data.path) == ("log", uri)

    def test_types_that_change_are_an_error(
        self, make: Callable[[list[tuple[object, object]]], str]
    ) -> None:
        uri = make([(n, 1) for n in range(2000)] + [("ann", 1)])
        with pytest.raises(DataError, match=r"log.db: .*Type mismatch in column 0"):
            cr.Dataset.from_sql(uri, "SELECT * FROM log", user="who", item="what")

    def test_a_file_that_is_not_there_is_not_made(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"none.db: no such file"):
            cr.Dataset.from_sql(f"sqlite:///{tmp_path / 'none.db'}", "SELECT 1")
        with pytest.raises(DataError, match="three slashes"):
            cr.Dataset.from_sql("sqlite://none.db", "SELECT 1")
        assert not list(tmp_path.iterdir())

    def test_it_is_read_only(self, make: Callable[[list[tuple[object, object]]], str]) -> None:
        uri = make([("ann", 1)])
        with pytest.raises(DataError, match="readonly"):
            cr.Dataset.from_sql(uri, "DELETE FROM log")


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql.dbapi", None)
    with pytest.raises(BackendError, match=r"pip install 'contrarec\[sql\]'"):
        cr.Dataset.from_sql("postgresql://db/shop", "SELECT 1")
