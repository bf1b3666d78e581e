"""`contrarec data`: what describe, check, split and synth print, write and refuse."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cli.tools import Answer
from contrarec.data.dataset import Dataset

Call = Callable[..., Answer]


@pytest.fixture(scope="module")
def file(log: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log as a CSV file with times."""
    path = tmp_path_factory.mktemp("log") / "log.csv"
    pl.DataFrame({"user_id": log[:, 0], "item_id": log[:, 1], "ts": np.arange(len(log))}).write_csv(
        path
    )
    return path


class TestDescribe:
    def test_counts(self, contrarec: Call, folder: Path, log: np.ndarray) -> None:
        result = json.loads(contrarec("data", "describe", folder, "--json").out)
        assert (result["name"], result["users"], result["items"]) == ("tiny", 40, 30)
        assert sum(part["interactions"] for part in result["parts"].values()) == len(log)
        assert result["parts"]["ood"]["unseen_users"] == 1
        assert any("ood: 1 users" in note for note in result["notes"])

    def test_text(self, contrarec: Call, folder: Path) -> None:
        answer = contrarec("data", "describe", folder)
        first, header, train, *_ = answer.out.splitlines()
        assert first == "tiny: 40 users, 30 items, of which 30 may be ranked"
        assert header.startswith("part")
        assert train.split()[:2] == ["train", "39"]

    def test_columns(self, contrarec: Call, tmp_path: Path) -> None:
        (tmp_path / "log.csv").write_text("who,what\na,b\n")
        answer = contrarec("data", "describe", tmp_path / "log.csv")
        assert (answer.status, "say which one holds the users" in answer.err) == (2, True)
        columns = ("--user-col", "who", "--item-col", "what")
        assert contrarec("data", "describe", tmp_path / "log.csv", *columns).status == 0
        answer = contrarec("data", "describe", tmp_path / "log.csv", "--user-col", "hwo")
        assert "did you mean 'who'" in answer.err


class TestCheck:
    def test_warnings_alone_are_no_failure(self, contrarec: Call, folder: Path) -> None:
        answer = contrarec("data", "check", folder, "--json")
        result = json.loads(answer.out)
        assert (answer.status, result["errors"]) == (0, 0)
        (finding,) = result["findings"]
        assert finding == {
            "level": "warning",
            "what": "users without training history",
            "where": "ood",
            "count": 1,
        }

    def test_an_error_is(self, contrarec: Call, folder: Path, tmp_path: Path) -> None:
        shutil.copytree(folder, tmp_path / "data")
        shutil.copy(folder / "test_ood.txt", tmp_path / "data" / "test_id.txt")
        answer = contrarec("data", "check", tmp_path / "data", "--json")
        result = json.loads(answer.out)
        assert (answer.status, result["errors"]) == (2, 1)
        assert result["findings"][0]["where"] == "id, ood"
        answer = contrarec("data", "check", tmp_path / "data")
        assert (answer.status, answer.err) == (2, "")
        assert "error    id, ood" in answer.out

    def test_nothing_found(self, contrarec: Call, file: Path) -> None:
        assert contrarec("data", "check", file) == (0, "Nothing found.\n", "")


class TestSplit:
    def test_parts_are_written_and_read_back(
        self, contrarec: Call, file: Path, log: np.ndarray, tmp_path: Path
    ) -> None:
        out = tmp_path / "parts"
        answer = contrarec(
            "data", "split", file, "--out", out, "--valid", "random:0.1", "--test", "id=random:0.2",
            "--test", "shifted=popularity:4,fraction=0.05,n_groups=5", "--seed", 3, "--json",
        )  # fmt: skip
        result = json.loads(answer.out)
        parts = {name: part["interactions"] for name, part in result["parts"].items()}
        n_id = round(0.2 * len(log))
        n_shifted = round(0.05 * (len(log) - n_id))
        n_valid = round(0.1 * (len(log) - n_id - n_shifted))
        rest = len(log) - n_id - n_shifted - n_valid
        assert parts == {"train": rest, "valid": n_valid, "id": n_id, "shifted": n_shifted}
        assert any(
            "PopularityShift(gamma=4.0, fraction=0.05, n_groups=5" in n for n in result["notes"]
        )
        read = Dataset.load(out)
        assert {name: part.nnz for name, part in read.parts.items()} == parts
        pairs = pl.concat([pl.read_parquet(path) for path in out.iterdir()])
        assert pairs.sort("user_id", "item_id").select("user_id", "item_id").equals(
            pl.DataFrame({"user_id": log[:, 0], "item_id": log[:, 1]})
        )  # fmt: skip

    def test_the_seed_decides(self, contrarec: Call, file: Path, tmp_path: Path) -> None:
        def parts(seed: int, name: str) -> pl.DataFrame:
            out = tmp_path / name
            options = ("--out", out, "--valid", "random:0.3", "--seed", seed)
            assert contrarec("data", "split", file, *options).status == 0
            return pl.read_parquet(out / "valid.parquet")

        assert parts(1, "a").equals(parts(1, "b"))
        assert not parts(1, "c").equals(parts(2, "d"))

    @pytest.mark.parametrize("how", ["last:2", "temporal:0.25", "temporal:at=400"])
    def test_by_time(
        self, contrarec: Call, file: Path, log: np.ndarray, tmp_path: Path, how: str
    ) -> None:
        answer = contrarec("data", "split", file, "--out", tmp_path / "p", "--valid", how, "--json")
        found = json.loads(answer.out)["parts"]["valid"]["interactions"]
        expected = {"last:2": 80, "temporal:0.25": len(log) // 4, "temporal:at=400": len(log) - 400}
        assert found == expected[how]

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ([], "nothing to split off"),
            (["--valid", "randm:0.1"], "--valid: unknown split 'randm' (did you mean 'random'?)"),
            (["--valid", "random:2"], "`fraction` must be above 0 and below 1, got 2"),
            (["--valid", "random:"], None),
            (["--valid", "last:x"], "`n` must be an integer, got 'x'"),
            (["--test", "random:0.1"], "--test must be NAME=HOW"),
            (["--test", "a=popularity:2,fractoin=0.1"], "did you mean 'fraction'"),
            (["--test", "a=random:0.1", "--test", "a=random:0.1"], "'a' is given twice"),
            (["--test", "a b=random:0.1"], "'a b'"),
        ],
    )
    def test_refusals(
        self, contrarec: Call, file: Path, tmp_path: Path, options: list[str], says: str | None
    ) -> None:
        out = tmp_path / "parts"
        answer = contrarec("data", "split", file, "--out", out, *options)
        if says is None:  # all settings have defaults
            assert answer.status == 0
            return
        assert (answer.status, answer.out) == (2, "")
        assert says in answer.err
        assert not out.exists()

    def test_a_folder_that_is_taken(self, contrarec: Call, file: Path, folder: Path) -> None:
        answer = contrarec("data", "split", file, "--out", folder, "--valid", "random")
        assert (answer.status, "not an empty folder" in answer.err) == (2, True)


class TestSynth:
    def test_a_folder_that_can_be_trained_on(self, contrarec: Call, tmp_path: Path) -> None:
        out = tmp_path / "world"
        sizes = ("--users", 60, "--items", 40, "--set", "n_preferred=15")
        answer = contrarec("data", "synth", "--out", out, *sizes, "--seed", 2, "--json")
        result = json.loads(answer.out)
        assert result["preferred"] == 60 * 15
        assert 0 < result["false_negatives"] < 60 * 15
        read = Dataset.load(out)
        assert set(read.parts) == {"train", "valid", "id", "uniform", "shifted"}
        again = tmp_path / "again"
        contrarec("data", "synth", "--out", again, *sizes, "--seed", 2)
        assert Dataset.load(again).fingerprint() == read.fingerprint()

    def test_refusals(self, contrarec: Call, tmp_path: Path) -> None:
        answer = contrarec("data", "synth", "--out", tmp_path / "w", "--set", "n_prefered=3")
        assert (answer.status, "did you mean 'n_preferred'" in answer.err) == (2, True)
        answer = contrarec("data", "synth", "--out", tmp_path / "w", "--users", "0")
        assert (answer.status, "`n_users` must be at least 1, got 0" in answer.err) == (2, True)
