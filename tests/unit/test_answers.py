"""Scores, reasons and neighbours by hand; recommendations written block by block."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from answering import N_USERS, seen, small_answers, small_history, small_vectors
from contrarec.answers import Answers
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import ConfigError, DataError
from contrarec.rankings import VectorRanking
from contrarec.serving.batch import recommend_to

USERS = pl.Series([f"u{n:02}" for n in range(N_USERS)])


class TestScore:
    def test_pairs_in_their_order(self) -> None:
        users, items = small_vectors()
        frame = small_answers().score(["u04", "u00", "u04"], ["i01", "i01", "i10"])
        assert frame.columns == ["user_id", "item_id", "score"]
        want = [users[4] @ items[1], users[0] @ items[1], users[4] @ items[10]]
        assert frame["score"].to_list() == want

    def test_one_user_for_all(self) -> None:
        frame = small_answers().score("u04", ["i01", "i02"])
        assert frame["user_id"].to_list() == ["u04"] * 2

    def test_none_for_the_unknown(self) -> None:
        with pytest.warns(UserWarning, match="3 of 4 pairs have no score"):
            frame = small_answers().score(["u13", "x", "u01", "u01"], ["i01", "i01", "y", "i01"])
        assert frame["score"].is_null().to_list() == [True, True, True, False]
        assert frame["item_id"].to_list() == ["i01", "i01", "y", "i01"]

    def test_as_many_users_as_items(self) -> None:
        with pytest.raises(DataError, match=r"equally many, .* got 2 and 3"):
            small_answers().score(["u01", "u02"], ["i01", "i02", "i03"])


class TestReasons:
    def answers(self) -> Answers:
        """One user who has i0, i1 and i2; cosines to i3 are 1, 0 and .6."""
        vectors = np.array([[2, 0], [0, 1], [0.6, 0.8], [3, 0]], np.float32)
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        history = Interactions.from_pairs(
            np.array([0, 0, 0]),
            np.array([0, 1, 2]),
            users=Vocabulary.of(["a", "b"]),
            items=Vocabulary.of(["i0", "i1", "i2", "i3"]),
        )
        return Answers(
            history=history,
            frame="polars",
            ranking=VectorRanking(np.ones((2, 2), np.float32), vectors),
            neighbours=lambda: VectorRanking(units, units),
        )

    def test_the_nearest_of_the_history(self) -> None:
        frame = self.answers().explain("a", ["i3", "i0"], n=2)
        rows = frame.select("item_id", "because_item_id", "rank").rows()
        # an item of the history is no reason for itself
        assert rows == [("i3", "i0", 1), ("i3", "i2", 2), ("i0", "i2", 1), ("i0", "i1", 2)]
        assert frame["similarity"].to_list() == pytest.approx([1, 0.6, 0.6, 0])

    def test_none_without_a_history(self) -> None:
        assert len(self.answers().explain(["b", "stranger"], ["i3", "i3"])) == 0

    def test_an_unknown_item(self) -> None:
        with pytest.raises(DataError, match="unknown item id 'x'"):
            self.answers().explain("a", "x")

    def test_parts_change_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        frame = small_answers().recommend(USERS[:-1], 4)
        whole = small_answers().explain(frame["user_id"], frame["item_id"])
        monkeypatch.setattr("contrarec.answers._ENTRIES", 5)
        assert small_answers().explain(frame["user_id"], frame["item_id"]).equals(whole)
        assert all(b in seen(u) for u, b in whole.select("user_id", "because_item_id").rows())


def test_neighbours_are_by_cosine_without_the_item_itself() -> None:
    _, items = small_vectors()
    frame = small_answers().similar_items(["i03"], 20)
    units = items / np.maximum(np.linalg.norm(items, axis=1, keepdims=True), 1e-12)
    cosines = units @ units[3]
    others = sorted((n for n in range(11) if n != 3), key=lambda n: (-cosines[n], n))
    assert frame["similar_item_id"].to_list() == [f"i{n:02}" for n in others]


def test_k_below_one() -> None:
    for ask in (small_answers().recommend, small_answers().similar_items):
        with pytest.raises(ConfigError, match="`k` must be at least 1, got 0"):
            ask(["i01"], 0)


@pytest.mark.filterwarnings("ignore::UserWarning")
class TestBatch:
    @pytest.mark.parametrize("block", [1, 3, 100])
    @pytest.mark.parametrize("name", ["recs.parquet", "recs.csv"])
    def test_is_one_by_one(self, tmp_path: Path, block: int, name: str) -> None:
        answers = small_answers()
        done = recommend_to(answers, USERS, tmp_path / name, 3, exclude=["i02"], block=block)
        read = pl.read_parquet if name.endswith("parquet") else pl.read_csv
        got = read(tmp_path / name)
        one_by_one = pl.concat([answers.recommend([u], 3, exclude=["i02"]) for u in USERS])
        assert got.select("user_id", "item_id", "rank").rows() == (
            one_by_one.select("user_id", "item_id", "rank").rows()
        )
        assert done["rows"] == len(got)
        assert done["rows_per_second"] == pytest.approx(len(got) / done["seconds"])

    def test_with_reasons(self, tmp_path: Path) -> None:
        answers = small_answers()
        recommend_to(answers, USERS, tmp_path / "r.parquet", 3, block=4, explain=True)
        got = pl.read_parquet(tmp_path / "r.parquet")
        assert got.columns[-2:] == ["because_item_id", "similarity"]
        cold = got.filter(pl.col("user_id") == "u13")
        assert cold["because_item_id"].null_count() == len(cold) == 3
        first = got.row(0, named=True)
        why = answers.explain(first["user_id"], first["item_id"], n=1)
        assert first["because_item_id"] == why["because_item_id"][0]

    def test_nobody_is_a_table_without_rows(self, tmp_path: Path) -> None:
        done = recommend_to(small_answers(), USERS[:0], tmp_path / "r.parquet")
        assert done["rows"] == 0
        assert pl.read_parquet(tmp_path / "r.parquet").columns == [
            "user_id", "item_id", "score", "rank",
        ]  # fmt: skip

    def test_an_error_leaves_the_old_file(self, tmp_path: Path) -> None:
        out = tmp_path / "r.parquet"
        out.write_text("old")
        users, items = small_vectors()
        users[9] = np.nan
        broken = Answers(
            history=small_history(),
            frame="polars",
            ranking=VectorRanking(users, items),
            neighbours=lambda: VectorRanking(items, items),
        )
        with pytest.raises(DataError, match="NaN"):
            recommend_to(broken, USERS, out, block=2)
        assert out.read_text() == "old"
        assert [path.name for path in tmp_path.iterdir()] == ["r.parquet"]

    def test_progress(self, tmp_path: Path) -> None:
        told: list[tuple[int, int, float]] = []
        recommend_to(
            small_answers(), USERS, tmp_path / "r.parquet", 1, block=5,
            on_block=lambda *numbers: told.append(numbers),
        )  # fmt: skip
        assert [numbers[:2] for numbers in told] == [(5, 5), (10, 10)]
        assert all(seconds > 0 for *_, seconds in told)


def test_those_without_history_are_told_once(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="1 of 14 users have no training history") as told:
        recommend_to(small_answers(), USERS, tmp_path / "r.parquet", block=2)
    assert len(told) == 1
