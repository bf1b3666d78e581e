"""What a server is made of: ids, masks, batches, the model that answers, its exchange."""

import asyncio
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import ConfigError, DataError
from contrarec.recommender import Recommender
from contrarec.serving.batching import Batcher, OverloadedError
from contrarec.serving.ids import IdIndex
from contrarec.serving.live import Live
from contrarec.serving.masks import RowsMask, add_pairs, take_rows
from contrarec.serving.model import ServedModel, UnknownIdError
from contrarec.serving.schemas import FoldInRequest, Limits, RecommendRequest, SimilarRequest
from servers import NASTY, data, train


class TestIds:
    def test_texts(self) -> None:
        ids = IdIndex(Vocabulary(pl.Series(["b", "a", "10", "ü"])))
        assert ids.index(["a", "b", "ü", "c", "", 10]).tolist() == [1, 0, 3, -1, -1, 2]

    def test_whole_numbers_and_their_texts_are_the_same(self) -> None:
        ids = IdIndex(Vocabulary(pl.Series([7, -3, 12])))
        wanted = [12, "12", -3, "-3", 8, "x", "7.0", "", " 7", "1_2", "９", "9" * 40, 2**63 - 1]
        assert ids.index(wanted).tolist() == [2, 2, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1, -1]

    @pytest.mark.parametrize("start", ["", "1", "12", "2", "9", "-", "x"])
    def test_those_with_a_common_start(self, start: str) -> None:
        numbers = [5, 12, 1, 123, -1, 2, 19, 120]
        ids = IdIndex(Vocabulary(pl.Series(numbers)))
        want = sorted((n for n in numbers if str(n).startswith(start)), key=str)
        assert ids.starting(start, 100) == want
        assert ids.starting(start, 2) == want[:2]

    def test_a_common_start_beyond_ascii(self) -> None:
        ids = IdIndex(Vocabulary(pl.Series(["z", "äb", "ä", "𝄞", "äa", "a"])))
        assert ids.starting("ä", 9) == ["ä", "äa", "äb"]
        assert ids.starting("𝄞", 9) == ["𝄞"]


def test_masks_against_sets() -> None:
    rng = np.random.default_rng(0)
    rows = [set(rng.choice(9, rng.integers(0, 6), replace=False).tolist()) for _ in range(7)]
    indptr = np.cumsum([0, *map(len, rows)])
    history = RowsMask(indptr, np.array([item for row in rows for item in sorted(row)], np.int32))
    for _ in range(20):
        index = rng.integers(0, 7, 5)
        keep = rng.random(5) < 0.7
        pairs = rng.integers(0, [5, 9], (rng.integers(0, 8), 2))
        mask = add_pairs(take_rows(history, index, keep), pairs[:, 0], pairs[:, 1], 9)
        got = [mask.indices[mask.indptr[row] : mask.indptr[row + 1]].tolist() for row in range(5)]
        want = [
            (rows[user] if kept else set()) | set(pairs[pairs[:, 0] == row, 1].tolist())
            for row, (user, kept) in enumerate(zip(index, keep, strict=True))
        ]
        assert got == [sorted(row) for row in want]


class Work:
    """Squares numbers, held up until it may go on; remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.may = threading.Event()

    def __call__(self, numbers: Sequence[int]) -> list[int | Exception]:
        assert self.may.wait(10)
        self.batches.append(list(numbers))
        if 13 in numbers:
            raise ZeroDivisionError("13")
        return [n * n if n >= 0 else LookupError(str(n)) for n in numbers]


def batched(
    numbers: list[int], *, max_rows: int = 100, max_waiting: int = 100
) -> tuple[list[Any], list[list[int]]]:
    """Ask for all numbers at once, while the first batch is held up."""
    work = Work()

    async def ask() -> list[Any]:
        with ThreadPoolExecutor(1) as executor:
            batcher: Batcher[int, int] = Batcher(
                work, abs, executor=executor, max_rows=max_rows, max_waiting=max_waiting
            )
            first = asyncio.create_task(batcher(1))
            await asyncio.sleep(0.05)  # its batch has gone
            rest = [asyncio.create_task(batcher(n)) for n in numbers]
            await asyncio.sleep(0)
            if 5 in numbers:
                rest[numbers.index(5)].cancel()
            work.may.set()
            answers = await asyncio.gather(first, *rest, return_exceptions=True)
            done = [task for task in rest if not task.cancelled() and task.exception() is None]
            assert not any(isinstance(task.result(), Exception) for task in done)  # but raised
            assert await batcher(2) == 4  # and it goes on
            return answers[1:]

    return asyncio.run(ask()), work.batches[1:-1]


class TestBatches:
    def test_what_waits_together_is_computed_together(self) -> None:
        answers, batches = batched([3, 1, 2])
        assert answers == [9, 1, 4]
        assert batches == [[3, 1, 2]]

    def test_a_batch_is_bounded(self) -> None:
        answers, batches = batched([3, 4, 2, 50, 1], max_rows=7)
        assert batches == [[3, 4], [2], [50], [1]]
        assert answers == [9, 16, 4, 2500, 1]

    def test_an_answer_may_be_an_error(self) -> None:
        answers, batches = batched([3, -1, 2])
        assert batches == [[3, -1, 2]]
        assert [answers[0], answers[2]] == [9, 4]
        assert isinstance(answers[1], LookupError)

    def test_a_failure_is_everybodys(self) -> None:
        answers, _ = batched([3, 13])
        assert all(isinstance(answer, ZeroDivisionError) for answer in answers)

    def test_who_does_not_wait_is_passed_over(self) -> None:
        answers, _ = batched([3, 5, 2])
        assert [answers[0], answers[2]] == [9, 4]
        assert isinstance(answers[1], asyncio.CancelledError)

    def test_too_many_are_turned_away(self) -> None:
        answers, _ = batched([3, 1, 2], max_waiting=2)
        assert answers[:2] == [9, 1]
        assert isinstance(answers[2], OverloadedError)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Runs of several methods, each trained once."""
    base = tmp_path_factory.mktemp("served")

    def find(loss: str) -> Path:
        if not (base / loss).exists():
            train(base / loss, loss)
        return base / loss

    return find


def items(answer: dict[str, Any], row: int = 0) -> list[str]:
    return [item["item_id"] for item in answer["results"][row]["items"]]


LOSSES = ("infonce", "bpr", "itemknn", "popularity")


class TestModel:
    @pytest.mark.parametrize("loss", LOSSES)
    def test_a_batch_gives_what_the_library_gives(
        self, runs: Callable[[str], Path], loss: str
    ) -> None:
        model, library = ServedModel.load(runs(loss)), Recommender.load(runs(loss))
        queries = [
            RecommendRequest(users=["u3", "u4"], k=4),
            RecommendRequest(users=["u5"], k=9, include_seen=True),
            RecommendRequest(users=["u3"], k=2),
        ]
        answers = model.recommend(queries)
        want = library.recommend(["u3", "u4"], k=4)
        assert items(answers[0]) + items(answers[0], 1) == want["item_id"].to_list()
        got = [item["score"] for row in answers[0]["results"] for item in row["items"]]
        np.testing.assert_allclose(got, want["score"], rtol=1e-5)
        want = library.recommend(["u5"], k=9, filter_viewed=False)
        assert items(answers[1]) == want["item_id"].to_list()
        assert items(answers[2]) == items(answers[0])[:2]
        assert [answer["run"] for answer in answers] == [loss] * 3
        assert answers[0]["results"][1]["user_id"] == "u4"
        counts = data().train.to_scipy().sum(0).A1
        places = data().train.items.ids.to_list()
        for item in answers[1]["results"][0]["items"]:
            assert item["popularity"] == counts[places.index(item["item_id"])]

    def test_excluded_items_are_a_questions_own(self, runs: Callable[[str], Path]) -> None:
        model, library = ServedModel.load(runs("infonce")), Recommender.load(runs("infonce"))
        everything = library.recommend(["u3"], k=45)["item_id"].to_list()
        unwanted = [everything[0], everything[2], "never heard of"]
        asked = [
            RecommendRequest(users=["u3", "u3"], k=3, exclude=unwanted),
            RecommendRequest(users=["u3"], k=3),
        ]
        first, second = model.recommend(asked)
        want = [item for item in everything if item not in unwanted][:3]
        assert items(first) == items(first, 1) == want
        assert items(second) == everything[:3]

    def test_unknown_users_get_what_is_popular(self, runs: Callable[[str], Path]) -> None:
        model = ServedModel.load(runs("infonce"))
        asked = [RecommendRequest(users=["u3", "nobody", 7], k=2, exclude=["i1"])]
        known, unknown, number = model.recommend(asked)[0]["results"]
        counts = dict(zip(data().train.items.ids, data().train.to_scipy().sum(0).A1, strict=True))
        popular = sorted(counts, key=lambda name: -counts[name])  # stable: ids ascend
        assert popular[0] == "i1"
        assert known["source"] == "model"
        assert (unknown["user_id"], unknown["source"]) == ("nobody", "popularity")
        assert [item["item_id"] for item in unknown["items"]] == popular[1:3]
        assert [item["score"] for item in unknown["items"]] == [counts[i] for i in popular[1:3]]
        assert [item["rank"] for item in unknown["items"]] == [1, 2]
        assert number["user_id"] == 7
        assert number["items"] == unknown["items"]

    def test_a_list_ends_where_the_items_do(self, runs: Callable[[str], Path]) -> None:
        model = ServedModel.load(runs("infonce"))
        answer = model.recommend([RecommendRequest(users=["u3", "nobody"], k=400)])[0]
        seen = int(data().train.user_counts[data().train.users.ids.to_list().index("u3")])
        assert len(items(answer)) == 45 - seen
        assert len(items(answer, 1)) == 45

    @pytest.mark.parametrize("loss", LOSSES)
    def test_histories_of_users_never_seen(self, runs: Callable[[str], Path], loss: str) -> None:
        model, library = ServedModel.load(runs(loss)), Recommender.load(runs(loss))
        histories = [["i3", "i6", "i6"], ["i5"]]
        want = library.fold_in(histories, k=4)
        asked = [
            FoldInRequest(histories=[["i3", "?", "i6", "i6"], [], ["?"]], k=4),
            FoldInRequest(histories=[["i5"]], k=4),
        ]
        first, second = model.fold_in(asked)
        assert items(first) + items(second) == want["item_id"].to_list()
        rows = first["results"]
        assert [row["history"] for row in rows] == [0, 1, 2]
        assert [row["source"] for row in rows] == ["model", "popularity", "popularity"]
        assert [row["unknown_items"] for row in rows] == [1, 0, 1]
        assert items(first, 1) == items(first, 2)
        assert items(first, 1)[0] == "i1"
        seen = library.fold_in(histories[1:], k=4, filter_viewed=False)["item_id"].to_list()
        asked = [FoldInRequest(histories=[["i5"]], k=4, include_seen=True)]
        assert items(model.fold_in(asked)[0]) == seen

    @pytest.mark.parametrize("loss", ["infonce", "itemknn"])
    def test_similar_items(self, runs: Callable[[str], Path], loss: str) -> None:
        model, library = ServedModel.load(runs(loss)), Recommender.load(runs(loss))
        asked = [
            SimilarRequest(items=["i4", NASTY], k=3),
            SimilarRequest(items=["i4", "?", "i5"], k=3),
            SimilarRequest(items=["i5"], k=5),
        ]
        first, unknown, last = model.similar(asked)
        want = library.similar_items(["i4", NASTY], k=3)["similar_item_id"].to_list()
        assert not isinstance(first, Exception)
        assert not isinstance(last, Exception)
        assert items(first) + items(first, 1) == want
        assert items(last) == library.similar_items(["i5"], k=5)["similar_item_id"].to_list()
        assert isinstance(unknown, UnknownIdError)
        assert "'?'" in str(unknown)

    def test_popularity_knows_no_similar_items(self, runs: Callable[[str], Path]) -> None:
        model = ServedModel.load(runs("popularity"))
        (answer,) = model.similar([SimilarRequest(items=["i4"])])
        assert isinstance(answer, ConfigError)

    def test_a_history_by_popularity(self, runs: Callable[[str], Path]) -> None:
        model = ServedModel.load(runs("infonce"))
        train_ = data().train
        place = train_.users.ids.to_list().index("u4")
        row = train_.to_scipy()[place].indices
        found = model.history_of("u4", 100)
        counts = [item["popularity"] for item in found["items"]]
        assert {item["item_id"] for item in found["items"]} == set(train_.items.take(row))
        assert counts == sorted(counts, reverse=True)
        assert found["total"] == len(row)
        assert model.history_of("u4", 2)["items"] == found["items"][:2]
        with pytest.raises(UnknownIdError, match="'nobody'"):
            model.history_of("nobody", 1)

    def test_a_diverged_run_is_refused(self, tmp_path: Path) -> None:
        recommender = train(tmp_path / "run")
        model: Any = recommender.model
        model.backbone.item_table.data[3] = np.nan
        with pytest.raises(DataError, match="not finite"):
            ServedModel(recommender, "run")


class TestExchange:
    def test_a_link_to_another_run(self, tmp_path: Path) -> None:
        train(tmp_path / "a")
        train(tmp_path / "b", seed=1)
        (tmp_path / "now").symlink_to("a")
        live = Live(tmp_path / "now", ServedModel.load)
        assert live.model.run == "a"
        assert not live.changed()
        (tmp_path / "now").unlink()
        assert not live.changed()  # nothing to change to
        (tmp_path / "now").symlink_to("b")
        assert live.changed()
        before = weakref.ref(live.model)
        assert live.reload()
        assert (live.model.run, live.changed()) == ("b", False)
        assert before() is None  # its memory is free

    def test_a_broken_run_is_not_taken(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        train(tmp_path / "a")
        (tmp_path / "now").symlink_to("a")
        live = Live(tmp_path / "now", ServedModel.load)
        (tmp_path / "now").unlink()
        (tmp_path / "broken").mkdir()
        (tmp_path / "now").symlink_to("broken")
        assert not live.reload()
        assert live.model.run == "a"
        assert "not a run" in caplog.text


def test_limits_below_one() -> None:
    with pytest.raises(ConfigError, match="`max_k` must be at least 1, got 0"):
        Limits(max_k=0)
