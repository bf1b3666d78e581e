"""`contrarec recommend` and `similar`: ids in, ids out, in a file or on standard output."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cli.tools import Answer, settings
from contrarec import scored
from contrarec.cli import main
from contrarec.kernels.cpu import topk
from contrarec.recommender import Recommender

Call = Callable[..., Answer]


@pytest.fixture(scope="module")
def named(log: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a log with ids that are texts."""
    base = tmp_path_factory.mktemp("named")
    rows = [f"u{user},i{item}" for user, item in log]
    (base / "log.csv").write_text("\n".join(["user_id,item_id", *rows]) + "\n")
    assert main(["train", str(base / "log.csv"), "--out", str(base / "run"), *settings()]) == 0
    return base / "run"


def history(folder: Path, user: int) -> set[int]:
    rows = (line.split() for line in (folder / "train.txt").read_text().splitlines())
    return {int(item) for first, *items in rows if int(first) == user for item in items}


class TestUsers:
    def test_a_few_load_no_compiled_code(self, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def answers(recommender: Recommender) -> list[pl.DataFrame]:
            return [
                recommender.recommend(pl.Series([100])),
                recommender.similar_items(pl.Series([505])),
            ]

        recommender = Recommender.load(run)
        monkeypatch.setattr(scored, "_FEW_SCORES", 0)
        compiled = answers(recommender)
        monkeypatch.undo()
        monkeypatch.setattr(topk, "merge", None)
        for few, want in zip(answers(recommender), compiled, strict=True):
            assert few.equals(want)

    def test_on_the_command_line(self, contrarec: Call, folder: Path, run: Path) -> None:
        answer = contrarec("recommend", run, "--users", "117, 100,117", "--k", 4, "--json")
        result = json.loads(answer.out)
        assert (result["run"], result["users"], result["k"]) == (str(run), 2, 4)
        rows = result["recommendations"]
        assert [row["user_id"] for row in rows] == [117] * 4 + [100] * 4
        assert [row["rank"] for row in rows] == [1, 2, 3, 4] * 2
        assert not {row["item_id"] for row in rows[:4]} & history(folder, 117)
        expected = Recommender.load(run).recommend([117, 100], k=4)
        assert pl.DataFrame(rows)["item_id"].to_list() == expected["item_id"].to_list()
        assert result["notes"] == []
        assert answer.err == ""

    def test_seen_items_on_demand(self, contrarec: Call, folder: Path, run: Path) -> None:
        answer = contrarec("recommend", run, "--users", 117, "--k", 30, "--include-seen", "--json")
        items = {row["item_id"] for row in json.loads(answer.out)["recommendations"]}
        assert history(folder, 117) < items
        assert len(items) == 30

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("users.txt", "117\n\n 100\n"),
            ("users.csv", "country,user_id\nat,117\nde,100\n"),
            ("users.tsv", "User\n117\n100\n"),
            ("users.csv", "anything\n117\n100\n"),
        ],
    )
    def test_in_a_file(
        self, contrarec: Call, run: Path, tmp_path: Path, name: str, content: str
    ) -> None:
        (tmp_path / name).write_text(content)
        from_file = contrarec("recommend", run, "--users", tmp_path / name, "--k", 3)
        assert from_file == contrarec("recommend", run, "--users", "117,100", "--k", 3)
        header, *rows = from_file.out.splitlines()
        assert header.split() == ["user_id", "item_id", "score", "rank"]
        assert [row.split()[0] for row in rows] == ["117"] * 3 + ["100"] * 3

    def test_in_a_parquet_file(self, contrarec: Call, run: Path, tmp_path: Path) -> None:
        pl.DataFrame({"user_id": [117, 100]}).write_parquet(tmp_path / "users.parquet")
        from_file = contrarec("recommend", run, "--users", tmp_path / "users.parquet")
        assert from_file == contrarec("recommend", run, "--users", "117,100")

    def test_as_texts(self, contrarec: Call, named: Path) -> None:
        answer = contrarec("recommend", named, "--users", "u117,u100", "--k", 2, "--json")
        rows = json.loads(answer.out)["recommendations"]
        assert [row["user_id"] for row in rows] == ["u117"] * 2 + ["u100"] * 2
        assert all(row["item_id"].startswith("i5") for row in rows)

    def test_without_history_get_the_popular_and_a_note(
        self, contrarec: Call, folder: Path, run: Path
    ) -> None:
        answer = contrarec("recommend", run, "--users", "117,139,4711", "--k", 2, "--json")
        result = json.loads(answer.out)
        counts: dict[int, int] = {}
        for line in (folder / "train.txt").read_text().splitlines():
            for item in map(int, line.split()[1:]):
                counts[item] = counts.get(item, 0) + 1
        popular = sorted(counts, key=lambda item: (-counts[item], item))[:2]
        items = [row["item_id"] for row in result["recommendations"]]
        assert items[2:] == popular * 2
        (note,) = result["notes"]
        assert "2 of 3 users have no training history" in note
        assert answer.err == f"contrarec: note: {note}\n"

    @pytest.mark.parametrize(
        ("users", "says"),
        [
            (
                "117,x",
                "--users: user ids must be whole numbers, as in the data of this run, got 'x'",
            ),
            ("1.5", "got '1.5'"),
            ("", "--users: no user ids."),
            (" , ", "--users: no user ids."),
            ("users.csv", "users.csv: no such file."),
        ],
    )
    def test_that_cannot_be(self, contrarec: Call, run: Path, users: str, says: str) -> None:
        answer = contrarec("recommend", run, "--users", users)
        assert (answer.status, answer.out) == (2, "")
        assert says in answer.err
        assert len(answer.err.splitlines()) == 1

    def test_a_file_without_their_column(self, contrarec: Call, run: Path, tmp_path: Path) -> None:
        (tmp_path / "users.csv").write_text("who,age\n117,30\n")
        answer = contrarec("recommend", run, "--users", tmp_path / "users.csv")
        assert answer.status == 2
        assert "no column is called user_id" in answer.err
        assert "columns: who, age" in answer.err

    def test_no_items_at_all(self, contrarec: Call, run: Path) -> None:
        answer = contrarec("recommend", run, "--users", "117", "--k", 0)
        assert answer.status == 2
        assert "`k` must be at least 1, got 0" in answer.err


class TestOut:
    @pytest.mark.parametrize("name", ["recs.csv", "recs.parquet"])
    def test_a_file(self, contrarec: Call, run: Path, tmp_path: Path, name: str) -> None:
        out = tmp_path / name
        out.write_text("old")
        answer = contrarec("recommend", run, "--users", "117,100", "--k", 3, "--out", out, "--json")
        result = json.loads(answer.out)
        assert (result["out"], result["rows"]) == (str(out), 6)
        frame = pl.read_csv(out) if name.endswith("csv") else pl.read_parquet(out)
        assert frame.columns == ["user_id", "item_id", "score", "rank"]
        assert frame["user_id"].to_list() == [117] * 3 + [100] * 3
        assert [path.name for path in tmp_path.iterdir()] == [name]

    def test_a_file_stays_as_it_was_when_writing_fails(
        self, contrarec: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "recs.csv"
        out.write_text("old")

        def half(_: pl.LazyFrame, path: Path) -> None:
            path.write_text("ha")
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(pl.LazyFrame, "sink_csv", half)
        answer = contrarec("recommend", run, "--users", "117", "--out", out)
        assert (answer.status, "Permission denied" in answer.err) == (2, True)
        assert out.read_text() == "old"
        assert [path.name for path in tmp_path.iterdir()] == ["recs.csv"]

    def test_text_for_people(self, contrarec: Call, run: Path, tmp_path: Path) -> None:
        answer = contrarec("recommend", run, "--users", 117, "--k", 3, "--out", tmp_path / "r.csv")
        assert answer.out == f"{tmp_path}/r.csv: 3 recommendations\n"


class TestSimilar:
    def test_neighbours(self, contrarec: Call, run: Path) -> None:
        answer = contrarec("similar", run, "--items", "505,506", "--k", 3, "--json")
        result = json.loads(answer.out)
        rows = result["neighbours"]
        assert [row["item_id"] for row in rows] == [505] * 3 + [506] * 3
        assert all(row["item_id"] != row["similar_item_id"] for row in rows)
        assert result["items"] == 2
        trained = Recommender.load(run)
        vectors = trained._trained().backbone()[1].detach().numpy()
        items = trained.items.ids.to_list()
        item = vectors[items.index(505)]
        cosines = vectors @ item / np.linalg.norm(vectors, axis=1) / np.linalg.norm(item)
        best = np.argsort(-cosines)[1:4]  # the first is the item itself
        assert [row["similar_item_id"] for row in rows[:3]] == [items[i] for i in best]
        assert [row["score"] for row in rows[:3]] == pytest.approx(cosines[best], abs=1e-5)

    def test_an_unknown_item(self, contrarec: Call, run: Path) -> None:
        answer = contrarec("similar", run, "--items", "505,9999")
        assert (answer.status, answer.out) == (2, "")
        assert "unknown item id 9999" in answer.err
        assert len(answer.err.splitlines()) == 1

    def test_to_a_file(self, contrarec: Call, named: Path, tmp_path: Path) -> None:
        out = tmp_path / "near.parquet"
        assert contrarec("similar", named, "--items", "i505", "--k", 2, "--out", out).status == 0
        frame = pl.read_parquet(out)
        assert frame.columns == ["item_id", "similar_item_id", "score", "rank"]
        assert frame["item_id"].to_list() == ["i505"] * 2
