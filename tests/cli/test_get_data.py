"""`contrarec data fetch`, `from-sql` and `clean`: what they print, write and refuse."""

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import polars as pl
import pytest

from cli.tools import Answer
from contrarec.data.catalog import entries
from contrarec.data.dataset import Dataset
from website import website

Call = Callable[..., Answer]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONTRAREC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    rows = "".join(f"{u}\t{i}\t{4 + (u + i) % 2}\t{u * i}\n" for u in range(12) for i in range(9))
    with ZipFile(tmp_path / "ml-100k.zip", "w") as file:
        file.writestr("ml-100k/u.data", rows)
    return tmp_path / "ml-100k.zip"


class TestFetch:
    def test_the_list(self, contrarec: Call, cache: Path) -> None:
        result = json.loads(contrarec("data", "fetch", "--json").out)
        assert result["cache"] == str(cache)
        assert [entry["name"] for entry in result["data"]] == list(entries.ENTRIES)
        assert not any(entry["fetched"] for entry in result["data"])
        assert "kuairand-pure" in contrarec("data", "fetch").out
        assert not cache.exists()

    def test_terms_are_shown_and_must_be_accepted(self, contrarec: Call, cache: Path) -> None:
        answer = contrarec("data", "fetch", "kuairec")
        assert (answer.status, answer.out) == (2, "")
        for part in ("https://zenodo.org", "430 MB", "CC BY-SA 4.0", "md5:2615"):
            assert part in answer.err
        assert answer.err.splitlines()[-1] == (
            "contrarec: error: kuairec: accept the licence with --yes to download it."
        )
        assert not cache.exists()

    def test_fetch_and_train_by_name(
        self, contrarec: Call, archive: Path, cache: Path, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.chdir(tmp_path)
        asks = contrarec("train", "ml-100k", "--loss", "popularity")
        assert asks.err == (
            "contrarec: error: ml-100k is not fetched yet: contrarec data fetch ml-100k\n"
        )
        with website() as site:
            site.content = archive.read_bytes()
            entry = replace(entries.find("ml-100k"), url=site.url, checksum=None)
            monkeypatch.setitem(entries.ENTRIES, "ml-100k", entry)
            answer = contrarec("data", "fetch", "ml-100k", "--yes", "--json")
        result = json.loads(answer.out)
        assert result["out"] == str(cache / "data" / "ml-100k")
        assert set(result["parts"]) == {"train", "valid", "id", "shifted"}
        assert sum(part["interactions"] for part in result["parts"].values()) == 12 * 9
        assert any("ratings are at least 4" in note for note in result["notes"])
        run = tmp_path / "run"
        trained = contrarec("train", "ml-100k", "--loss", "popularity", "--out", run, "--json")
        assert set(json.loads(trained.out)["metrics"]) == {"valid", "id", "shifted"}
        monkeypatch.setenv("CONTRAREC_CACHE", str(tmp_path / "moved"))  # a run knows the folder
        assert contrarec("evaluate", run).status == 0

    def test_an_archive_of_ones_own_needs_no_yes(self, contrarec: Call, archive: Path) -> None:
        answer = contrarec("data", "fetch", "ml-100k", "--from", archive)
        assert "its sha256 is" in answer.err  # it is not the real one
        assert answer.status == 2
        with ZipFile(archive) as file:
            file.extractall(archive.parent / "own")
        fetch = ("data", "fetch", "ml-100k", "--from", archive.parent / "own")
        assert contrarec(*fetch).status == 0
        assert "fetched before; delete it to fetch it again" in contrarec(*fetch).err

    def test_unknown_names(self, contrarec: Call) -> None:
        assert "did you mean 'ml-1m'" in contrarec("data", "fetch", "ml1m").err


class TestFromSQL:
    def test_a_query_becomes_a_log(self, contrarec: Call, tmp_path: Path) -> None:
        connection = sqlite3.connect(tmp_path / "shop.db")
        connection.execute("CREATE TABLE buys (who, what, at)")
        connection.execute("INSERT INTO buys VALUES ('ann', 7, 3), ('bob', 8, 1)")
        connection.commit()
        connection.close()
        out = tmp_path / "log.parquet"
        uri = f"sqlite:///{tmp_path / 'shop.db'}"
        columns = ("--user-col", "who", "--item-col", "what", "--time-col", "at")
        command = ("data", "from-sql", uri, "--query", "SELECT * FROM buys", "--out", out)
        answer = contrarec(*command, *columns, "--json")
        assert json.loads(answer.out) == {"out": str(out), "path": uri, "events": 2, "notes": []}
        assert pl.read_parquet(out).rows() == [("ann", 7, 3), ("bob", 8, 1)]
        assert "already there" in contrarec(*command, *columns).err
        assert Dataset.load(out).train.nnz == 2

    @pytest.mark.parametrize(
        ("uri", "out", "says"),
        [
            ("sqlite:///no.db", "log.parquet", "no.db: no such file"),
            ("postgresql://ann:hun@ter2@db/x", "log.parquet", "written as %40"),
            ("postgresql://ann:hunter2@127.0.0.1:1/x", "log.parquet", "Connection refused"),
            ("postgresql://ann@db/x", "log.csv", "--out must end in .parquet"),
            ("postgresql://ann@db/x", "no/log.parquet", "no folder 'no'"),
        ],
    )
    def test_refusals(
        self, contrarec: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, out: str,
        says: str,
    ) -> None:  # fmt: skip
        monkeypatch.chdir(tmp_path)
        answer = contrarec("data", "from-sql", uri, "--query", "SELECT 1", "--out", out)
        assert (answer.status, answer.out) == (2, "")
        assert says in answer.err
        assert len(answer.err.splitlines()) == 1
        assert "ter2" not in answer.err
        assert not list(tmp_path.iterdir())


class TestClean:
    @pytest.fixture
    def log(self, tmp_path: Path) -> Path:
        """Ratings: a bot with 12 events in a minute, others with a few an hour apart."""
        rows = [("bot", f"i{n}", 5, 1_700_000_000 + 5 * n) for n in range(12)]
        rows += [
            (f"u{u}", f"i{i}", (u + i) % 5 + 1, 1_700_000_000 + 3600 * i)
            for u in range(5)
            for i in range(6)
        ]
        rows += [("u0", "i0", 5, 1_700_000_600)]  # rated once more, ten minutes later
        pl.DataFrame(rows, ["user", "item", "rating", "ts"], orient="row").write_csv(
            tmp_path / "log.csv"
        )
        return tmp_path / "log.csv"

    def test_steps_in_their_order(self, contrarec: Call, log: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.parquet"
        answer = contrarec(
            "data", "clean", log, "--weight-col", "rating", "--k-core", "1,2", "--min-weight", 4,
            "--repeats", "last", "--max-rate", "10/1m", "--max-per-user", 100, "--unweighted",
            "--sessions", "5m", "--out", out, "--json",
        )  # fmt: skip
        result = json.loads(answer.out)
        names = [note.partition("(")[0] for note in result["notes"]]
        assert names == [
            "MaxRate", "MaxPerUser", "Sessions", "Repeats", "MinWeight", "KCore", "Unweighted",
        ]  # fmt: skip
        # ratings of 4 and 5 are where (u + i) % 5 is 3 or 4, and u0's i0 once it is rated anew
        kept = {(f"u{u}", f"i{i}") for u in range(5) for i in range(6) if (u + i) % 5 >= 3}
        kept |= {("u0", "i0")}
        left = pl.read_parquet(out)
        assert left.columns == ["user", "item", "time"]
        assert set(left.select("user", "item").rows()) == kept
        assert result["events"] == len(kept)
        assert Dataset.load(out).steps == tuple(result["notes"])

    def test_the_latest_of_each_user(self, contrarec: Call, log: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.parquet"
        answer = contrarec("data", "clean", log, "--max-per-user", 2, "--keep-latest", "--out", out)
        assert answer.status == 0
        assert answer.out == f"{out}: 12 events, 6 users, 4 items\n"

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ([], "nothing to do"),
            (["--keep-latest"], "--keep-latest needs --max-per-user"),
            (["--max-rate", "10"], "--max-rate must be N/TIME"),
            (["--max-rate", "10/soon"], "`window` must be a positive number"),
            (["--k-core", "2,3,4"], "--k-core must be K or K,K"),
            (["--k-core", "0"], "`per_user` must be at least 1, got 0"),
            (["--repeats", "lst"], "did you mean 'last'"),
            (["--min-weight", "4"], "needs weights, and the log has none"),
            (["--k-core", "50"], "nothing is left of the log"),
            (["--k-core", "2", "--user-col", "usr"], "did you mean 'user'"),
        ],
    )
    def test_refusals(
        self, contrarec: Call, log: Path, tmp_path: Path, options: list[str], says: str
    ) -> None:
        out = tmp_path / "out.parquet"
        answer = contrarec("data", "clean", log, *options, "--out", out)
        assert (answer.status, answer.out) == (2, "")
        assert says in answer.err
        assert len(answer.err.splitlines()) == 1
        assert not out.exists()
