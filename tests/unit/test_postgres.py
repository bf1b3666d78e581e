"""The PostgreSQL of the tests is one: with a password, and with pgvector."""

import pytest

dbapi = pytest.importorskip("adbc_driver_postgresql.dbapi")


def test_it_answers_and_asks_for_the_password(postgres_uri: str) -> None:
    with dbapi.connect(postgres_uri) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 6 * 7")
        assert cursor.fetchone() == (42,)
    user, _, rest = postgres_uri.partition("@")
    with pytest.raises(dbapi.Error, match="password"):
        dbapi.connect(f"{user.rpartition(':')[0]}:wrong@{rest}")


def test_it_measures_vectors(pgvector_uri: str) -> None:
    with dbapi.connect(pgvector_uri) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT '[1, 2]'::vector <#> '[3, 4]'::vector")
        assert cursor.fetchone() == (-11.0,)
