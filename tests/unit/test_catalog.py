"""Data sets by name: small archives in the layout of the real ones, from a website on loopback."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import polars as pl
import pytest

import contrarec as cr
from contrarec.data.catalog import conversions, download, entries
from contrarec.errors import ConfigError, DataError
from website import Website, website

Pairs = set[tuple[int, int]]

# 4 users × 3 coats; positives of train: (0, 1), (1, 0), (1, 2), (3, 0); of test: (0, 2), (2, 0)
TRAIN_ASCII = "0 4 3 \n5 0 4 \n1 0 0 \n4 0 0 \n"
TEST_ASCII = "0 3 5 \n0 0 0 \n4 1 2 \n0 0 0 \n"


def pairs(log: cr.Interactions) -> Pairs:
    users, items = log.users.take(log.rows), log.items.take(log.indices)
    return set(zip(users.to_list(), items.to_list(), strict=True))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONTRAREC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Website]:
    """A website that the entry of Coat points to."""
    monkeypatch.setattr(download, "PAUSE", 0.0)
    with ZipFile(tmp_path / "made.zip", "w") as file:
        file.writestr("coat/README.txt", "about")
        file.writestr("coat/train.ascii", TRAIN_ASCII)
        file.writestr("coat/test.ascii", TEST_ASCII)
    with website() as site:
        site.content = (tmp_path / "made.zip").read_bytes()
        monkeypatch.setitem(entries.ENTRIES, "coat", replace(entries.find("coat"), url=site.url))
        yield site


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., Path]:
    """Write texts into a folder of the user's own."""

    def write(**texts: str) -> Path:
        (tmp_path / "own" / "deep").mkdir(parents=True)
        for name, text in texts.items():
            (tmp_path / "own" / "deep" / name).write_text(text)
        return tmp_path / "own"

    return write


class TestFetch:
    def test_from_the_address_to_the_parts(self, site: Website, cache: Path) -> None:
        data = cr.catalog.fetch("coat", accept=True)
        assert data.valid is not None
        train = pairs(data.train) | pairs(data.valid.truth)
        assert train == {(0, 1), (1, 0), (1, 2), (3, 0)}
        assert data.valid.truth.nnz == 1  # 29 % of 4
        assert pairs(data.tests["ood"].truth) == {(0, 2), (2, 0)}
        assert data.name == "coat"
        assert data.steps[0].startswith("coat: from data.zip (sha256 ")
        assert data.steps[1] == "train: 4 of 6 ratings are at least 4"
        assert data.steps[2] == "ood: 2 of 5 ratings are at least 4"
        assert {file.name for file in cache.rglob("*") if file.suffix != ".lock"} == {
            "data", "coat", "train.parquet", "valid.parquet", "test_ood.parquet",
            "downloads", "data.zip", "data.zip.sha256",
        }  # fmt: skip
        again = cr.catalog.fetch("coat")
        assert len(site.asked) == 1
        assert (again.fingerprint(), again.steps) == (data.fingerprint(), data.steps)

    def test_nothing_is_downloaded_unless_the_licence_is_accepted(
        self, site: Website, cache: Path
    ) -> None:
        with pytest.raises(ConfigError, match=r"`accept` must be true .*licence none stated; cite"):
            cr.catalog.fetch("coat")
        assert site.asked == []
        assert not cache.exists()

    @pytest.mark.usefixtures("site")
    def test_a_wrong_checksum_converts_nothing(
        self, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wrong = replace(entries.find("coat"), checksum=f"md5:{'0' * 32}")
        monkeypatch.setitem(entries.ENTRIES, "coat", wrong)
        with pytest.raises(DataError, match=r"its md5 is .* expected 0000"):
            cr.catalog.fetch("coat", accept=True)
        assert not (cache / "data").exists()
        own = cache.parent / "made.zip"
        with pytest.raises(DataError, match=r"its md5 is .* expected 0000"):
            cr.catalog.fetch("coat", source=own)

    def test_a_broken_archive_converts_nothing(self, site: Website, cache: Path) -> None:
        site.content = site.content[:-30]
        with pytest.raises(DataError, match=r"data.zip: not a sound archive"):
            cr.catalog.fetch("coat", accept=True)
        assert not (cache / "data").exists()
        assert {file.name for file in (cache / "downloads").iterdir()} <= {
            "data.zip", "data.zip.sha256", "data.zip.lock",
        }  # fmt: skip

    def test_an_archive_of_ones_own(self, site: Website, cache: Path) -> None:
        data = cr.catalog.fetch("coat", source=cache.parent / "made.zip")
        assert pairs(data.tests["ood"].truth) == {(0, 2), (2, 0)}
        assert site.asked == []

    def test_a_folder_that_lacks_a_file(self, files: Callable[..., Path]) -> None:
        own = files(**{"train.ascii": TRAIN_ASCII})
        with pytest.raises(DataError, match=r"0 files called test.ascii in it, expected one"):
            cr.catalog.fetch("coat", source=own)
        with pytest.raises(DataError, match="nowhere: no such file or folder"):
            cr.catalog.fetch("coat", source="nowhere")

    def test_yahoo_says_how_to_get_it_and_takes_what_is_put_there(self, cache: Path) -> None:
        place = cache / "downloads" / "yahoo-r3"
        with pytest.raises(DataError) as caught:
            cr.catalog.fetch("yahoo-r3", accept=True)
        for part in ("webscope", "agreement", str(place), "ydata-ymusic-rating-study-v1_0-test"):
            assert part in str(caught.value)
        place.mkdir(parents=True)
        stem = "ydata-ymusic-rating-study-v1_0"
        (place / f"{stem}-train.txt").write_text("1\t14\t5\n1\t35\t1\n5\t46\t4\n9\t14\t4\n")
        (place / f"{stem}-test.txt").write_text("1\t49\t1\n1\t126\t4\n")
        data = cr.catalog.fetch("yahoo-r3")
        assert data.valid is not None
        assert pairs(data.train) | pairs(data.valid.truth) == {(1, 14), (5, 46), (9, 14)}
        assert pairs(data.tests["ood"].truth) == {(1, 126)}


class TestNames:
    @pytest.mark.usefixtures("site")
    def test_a_name_is_data_once_it_is_fetched(self, cache: Path) -> None:
        with pytest.raises(DataError) as caught:
            cr.Dataset.load("coat")
        assert str(caught.value) == "coat is not fetched yet: contrarec data fetch coat"
        fetched = cr.catalog.fetch("coat", accept=True)
        data = cr.Dataset.load("coat")
        assert data.fingerprint() == fetched.fingerprint()
        assert data.path == str(cache / "data" / "coat")

    def test_a_folder_of_that_name_wins(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "coat").mkdir()
        (tmp_path / "coat" / "train.txt").write_text("7 8 9\n")
        assert pairs(cr.Dataset.load("coat").train) == {(7, 8), (7, 9)}

    def test_an_unknown_name(self) -> None:
        with pytest.raises(DataError, match=r"unknown data set 'ml1m' \(did you mean 'ml-1m'\?\)"):
            cr.catalog.fetch("ml1m")

    def test_the_cache_is_the_users_unless_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CONTRAREC_CACHE", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
        assert cr.catalog.cache_folder().name == "contrarec"
        monkeypatch.setenv("CONTRAREC_CACHE", "~/mine")
        assert cr.catalog.cache_folder() == Path.home() / "mine"

    def test_every_entry_can_be_converted_and_tells_its_terms(self) -> None:
        assert set(cr.catalog.ENTRIES) == set(conversions.CONVERTERS)
        lengths = {"md5": 32, "sha256": 64}
        for entry in cr.catalog.ENTRIES.values():
            kind, _, digest = (entry.checksum or f"md5:{'0' * 32}").partition(":")
            assert len(digest) == lengths[kind]
            assert entry.url is None or entry.url.startswith("https://")
            assert entry.licence in entry.card()


class TestConversions:
    def test_coat_needs_matrices_of_one_shape(self, files: Callable[..., Path]) -> None:
        own = files(**{"train.ascii": TRAIN_ASCII, "test.ascii": "0 1\n1 0\n"})
        with pytest.raises(DataError, match="must have one shape"):
            cr.catalog.fetch("coat", source=own)
        (own / "deep" / "test.ascii").write_text("<html>\n")
        with pytest.raises(DataError, match=r"test.ascii: not a matrix of whole numbers"):
            cr.catalog.fetch("coat", source=own)

    def test_kuairec(self, files: Callable[..., Path]) -> None:
        header = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio\n"
        row = "{},{},1,1,2020-07-05 00:08:23.438,20200705,1593878903.438,{}\n"
        timeless = "{},{},1,1,,,,{}\n"
        # users 0 to 5, videos 10 to 14; only 10, 11 and 12 are in the small matrix
        big = [(0, 10, 2.0), (0, 13, 3.5), (1, 14, 1.99), (1, 13, 2), (5, 12, 0.1), (2, 14, 9)]
        small = [(u, v, 2 + u) if (u, v) != (4, 11) else (u, v, 1.9999)
                 for u in (3, 4) for v in (10, 11, 12)]  # fmt: skip
        own = files(
            **{
                "big_matrix.csv": header + "".join(row.format(*r) for r in big),
                "small_matrix.csv": header
                + "".join((timeless if r[0] == 4 else row).format(*r) for r in small),
            }
        )
        data = cr.catalog.fetch("kuairec", source=own)
        assert data.valid is not None
        valid, ood = pairs(data.valid.truth), pairs(data.tests["ood"].truth)
        assert pairs(data.train) == {(0, 10), (0, 13), (1, 13), (2, 14)}
        assert valid | ood == {(u, v) for u, v, ratio in small if ratio >= 2}
        assert valid & ood == set()
        assert (len(valid), len(ood)) == (2, 3)
        assert data.candidates is not None
        assert data.items.take(data.candidates).to_list() == [10, 11, 12]
        assert data.train.time is not None

    def test_kuairand(self, files: Callable[..., Path]) -> None:
        header = "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_rand,tab\n"

        def log(*rows: tuple[int, int, int]) -> str:
            lines = [
                f"{u},{v},20220421,400,165048580{n},{c},0,0,1" for n, (u, v, c) in enumerate(rows)
            ]
            return header + "\n".join(lines) + "\n"

        first = [(u, v, 1) for u in range(5) for v in range(4)]
        own = files(
            **{
                "log_standard_4_08_to_4_21_pure.csv": log(*first, (9, 9, 0)),
                "log_standard_4_22_to_5_08_pure.csv": log((5, 0, 1), (5, 1, 0)),
                "log_random_4_22_to_5_08_pure.csv": log((0, 7, 1), (1, 7, 0), (1, 6, 1)),
            }
        )
        data = cr.catalog.fetch("kuairand-pure", source=own)
        assert data.valid is not None
        train = pairs(data.train) | pairs(data.valid.truth)
        assert train == {(u, v) for u, v, _ in first} | {(5, 0)}
        assert data.valid.truth.nnz == 2  # a tenth of 21
        assert pairs(data.tests["ood"].truth) == {(0, 7), (1, 6)}

    @pytest.mark.parametrize(
        ("name", "file", "line", "header"),
        [
            ("ml-100k", "u.data", "{}\t{}\t{:.0f}\t{}\n", ""),
            ("ml-1m", "ratings.dat", "{}::{}::{:.0f}::{}\n", ""),
            (
                "ml-latest-small",
                "ratings.csv",
                "{},{},{},{}\n",
                "userId,movieId,rating,timestamp\n",
            ),
        ],
    )
    def test_movielens(
        self, files: Callable[..., Path], name: str, file: str, line: str, header: str
    ) -> None:
        rng = np.random.default_rng(0)
        rated = {(int(u), int(i)): float(r) for u, i, r in rng.integers(1, (31, 21, 6), (500, 3))}
        rows = [(u, i, r, 874_965_758 + n) for n, ((u, i), r) in enumerate(rated.items())]
        if name == "ml-latest-small":  # half stars: 3.5 is not positive
            rows = [(u, i, 3.5 if r == 3 else r, t) for u, i, r, t in rows]
        own = files(**{file: header + "".join(line.format(*row) for row in rows)})
        data = cr.catalog.fetch(name, source=own)
        positive = {(u, i) for u, i, rating, _ in rows if rating >= 4}
        parts = data.parts
        assert set(parts) == {"train", "valid", "id", "shifted"}
        assert set.union(*map(pairs, parts.values())) == positive
        assert sum(part.nnz for part in parts.values()) == len(positive)
        assert parts["id"].nnz == round(len(positive) / 10)
        assert any("PopularityShift(gamma=2.0" in step for step in data.steps)
        times = pl.DataFrame(rows, ["user", "item", "rating", "time"], orient="row")["time"]
        assert parts["train"].time is not None
        assert times.is_in(parts["train"].time.tolist()).sum() == parts["train"].nnz

    def test_a_table_that_is_something_else(self, files: Callable[..., Path]) -> None:
        own = files(**{"u.data": "1\t2\tfive\t8\n"})
        with pytest.raises(DataError, match=r"u.data: not what it should be"):
            cr.catalog.fetch("ml-100k", source=own)
        (own / "deep" / "u.data").write_text("")
        with pytest.raises(DataError, match=r"u.data: not what it should be"):
            cr.catalog.fetch("ml-100k", source=own)
