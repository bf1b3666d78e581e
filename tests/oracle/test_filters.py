"""Filters against naive masks, blocks against one by one, NumPy against torch."""

import numpy as np
import polars as pl
import pytest
import torch

from answering import (
    N_ITEMS,
    N_USERS,
    naive_lists,
    seen,
    small_answers,
    small_history,
    small_vectors,
)
from contrarec.errors import DataError
from contrarec.evaluation.ranking import dot_scorer
from contrarec.kernels.topk import masked_top_k
from contrarec.rankings import Ranking, Rows, VectorRanking, best_listed, together, without
from contrarec.scored import ScorerRanking

USERS = [f"u{n:02}" for n in range(N_USERS)] + ["nobody", "u03"]
ITEMS = [f"i{n:02}" for n in range(N_ITEMS)]
PER_USER = pl.DataFrame(
    {
        "user_id": ["u03", "u05", "u13", "nobody", "u05", "u05", "stranger"],
        "item_id": ["i01", "i07", "i02", "i04", "i08", "i00", "i03"],
    }
)
OF_USER = {
    "u03": {"i01"}, "u05": {"i00", "i07", "i08"}, "u13": {"i02"}, "nobody": {"i04"},
}  # fmt: skip


def listed(frame: pl.DataFrame) -> list[tuple[str, str]]:
    return list(zip(frame["user_id"], frame["item_id"], strict=True))


@pytest.mark.parametrize("k", [1, 4, 30])
@pytest.mark.parametrize("viewed", [True, False])
@pytest.mark.parametrize("exclude", [None, ["i02", "i09", "unheard"], PER_USER])
@pytest.mark.parametrize("allow", [None, ["i09", "i02", "i03", "i05"], PER_USER])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_filters_are_masks(k: int, viewed: bool, exclude: object, allow: object) -> None:
    banned = {}
    for user in USERS:
        out = seen(user) if viewed else set()
        if exclude is PER_USER:
            out = out | OF_USER.get(user, set())
        elif exclude:
            out = out | {"i02", "i09"}
        if allow is PER_USER:
            out = out | (set(ITEMS) - OF_USER.get(user, set()))
        elif allow:
            out = out | (set(ITEMS) - {"i09", "i02", "i03", "i05"})
        banned[user] = out
    frame = small_answers().recommend(USERS, k, filter_viewed=viewed, exclude=exclude, allow=allow)
    want = naive_lists(USERS, k, banned)
    assert listed(frame) == want
    ranks = frame["rank"].to_numpy()
    starts = ranks == 1
    assert (ranks[1:][~starts[1:]] == ranks[:-1][~starts[1:]] + 1).all()


def test_only_what_is_available_is_allowed() -> None:
    stock = pl.DataFrame(
        {"item_id": ITEMS, "available": [number % 2 == 0 for number in range(N_ITEMS)]}
    )
    frame = small_answers().recommend(["u00", "u04"], 30, allow=stock)
    odd = {item for number, item in enumerate(ITEMS) if number % 2}
    banned = {user: seen(user) | odd for user in ("u00", "u04")}
    assert listed(frame) == naive_lists(["u00", "u04"], 30, banned)
    texts = stock.with_columns(pl.col("available").cast(pl.String))
    assert small_answers().recommend(["u00", "u04"], 30, allow=texts).equals(frame)


@pytest.mark.parametrize("frame", ["pandas", "pyarrow"])
def test_lists_come_in_any_frame(frame: str) -> None:
    lists = PER_USER.to_pandas() if frame == "pandas" else PER_USER.to_arrow()
    got = small_answers().recommend(pl.Series(["u05"]), exclude=lists)
    assert got.equals(small_answers().recommend(pl.Series(["u05"]), exclude=PER_USER))


@pytest.mark.parametrize(
    ("lists", "says"),
    [
        ({"exclude": pl.DataFrame({"a": ["i01"], "b": [1]})}, "exclude: no column is called item"),
        (
            {"exclude": pl.DataFrame({"item_id": ["i01"], "available": [True]})},
            "exclude: a column `available` belongs to the items to allow",
        ),
        (
            {"allow": pl.DataFrame({"item_id": ["i01"], "available": ["maybe"]})},
            "`available` must be true or false, got 'maybe'",
        ),
        (
            {"allow": pl.DataFrame({"item_id": ["i01"], "price": [3]})},
            "allow: beside the items there must be a column of users or `available`",
        ),
    ],
)
def test_lists_that_say_nothing(lists: dict[str, object], says: str) -> None:
    with pytest.raises(DataError, match=says):
        small_answers().recommend(["u01"], **lists)


def test_what_is_not_known_or_not_listed_is_said() -> None:
    with pytest.warns(UserWarning, match="2 of the allowed items are not known"):
        small_answers().recommend(["u01"], allow=["i01", "x", "y", "x"])
    with pytest.warns(UserWarning, match="2 of 3 users have no row in the allowed items"):
        got = small_answers().recommend(["u01", "u03", "u02"], filter_viewed=False, allow=PER_USER)
    assert set(got["user_id"]) == {"u03"}


class TestRankings:
    @pytest.fixture(params=["vectors", "scorer", "dots"])
    def ranking(self, request: pytest.FixtureRequest) -> Ranking:
        users, items = small_vectors()
        dots = dot_scorer(torch.from_numpy(users), torch.from_numpy(items))
        return {
            "vectors": VectorRanking(users, items),
            "scorer": ScorerRanking(lambda rows: dots(rows), N_ITEMS),
            "dots": ScorerRanking(dots, N_ITEMS),
        }[request.param]

    def test_the_best(self, ranking: Ranking) -> None:
        users, items = small_vectors()
        rows = np.array([4, 0, 13, 4])
        history = small_history()
        mask = Rows(history.indptr, history.indices).select(rows)
        candidates = np.arange(N_ITEMS) != 6
        scores = torch.from_numpy(users[rows] @ items.T)
        want = masked_top_k(
            scores, 5, mask=(history.indptr, history.indices), rows=rows, candidates=candidates,
            backend="reference",
        )  # fmt: skip
        got = ranking.top(rows, 5, mask=mask, candidates=candidates)
        np.testing.assert_array_equal(got[0], want[0])
        np.testing.assert_array_equal(got[1], want[1])

    def test_more_than_there_are(self, ranking: Ranking) -> None:
        items, scores = ranking.top(np.array([2]), 20, mask=None, candidates=None)
        assert sorted(items[0, :N_ITEMS]) == list(range(N_ITEMS))
        assert (items[0, N_ITEMS:] == -1).all()
        assert np.isneginf(scores[0, N_ITEMS:]).all()

    def test_pairs(self, ranking: Ranking) -> None:
        users, items = small_vectors()
        rows, columns = np.array([3, 0, 3, 7, 0]), np.array([1, 1, 0, 10, 1])
        want = [float(users[u] @ items[i]) for u, i in zip(rows, columns, strict=True)]
        assert ranking.pairs(rows, columns).tolist() == want
        assert ranking.pairs(rows[:0], columns[:0]).tolist() == []

    def test_those_listed(self, ranking: Ranking) -> None:
        users, items = small_vectors()
        listed = Rows(np.array([0, 3, 3, 5]), np.array([2, 5, 9, 0, 1], np.int32))
        got, scores = best_listed(ranking, np.array([3, 4, 8]), 2, listed)
        for row, (user, pool) in enumerate([(3, [2, 5, 9]), (4, []), (8, [0, 1])]):
            best = sorted(pool, key=lambda n, user=user: (-(users[user] @ items[n]), n))[:2]
            assert got[row, : len(best)].tolist() == best
            assert (got[row, len(best) :] == -1).all()
            assert scores[row, : len(best)].tolist() == [users[user] @ items[n] for n in best]

    def test_blocks_change_nothing(self, ranking: Ranking, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = np.arange(N_USERS)
        whole = ranking.top(rows, 3, mask=None, candidates=None), ranking.pairs(rows, rows % 5)
        for place in ("rankings._BLOCK", "scored._GATHERED"):
            monkeypatch.setattr(f"contrarec.{place}", N_ITEMS * 2)
        monkeypatch.setattr("contrarec.scored.default_block_size", lambda _: 3)
        parts = ranking.top(rows, 3, mask=None, candidates=None), ranking.pairs(rows, rows % 5)
        np.testing.assert_array_equal(parts[0][0], whole[0][0])
        np.testing.assert_array_equal(parts[1], whole[1])

    def test_nan_is_an_error(self) -> None:
        users, items = small_vectors()
        items[3, 1] = np.nan
        users[0] = 1
        with pytest.raises(DataError, match="NaN"):
            VectorRanking(users, items).top(np.array([0]), 2, mask=None, candidates=None)


def test_rows() -> None:
    rows = Rows(np.array([0, 2, 2, 3]), np.array([1, 4, 2], np.int32))
    picked = rows.select(np.array([2, -1, 0, 1, 0]))
    assert picked.indptr.tolist() == [0, 1, 1, 3, 3, 5]
    assert picked.indices.tolist() == [2, 1, 4, 1, 4]
    assert picked.of.tolist() == [0, 2, 2, 4, 4]
    other = Rows(np.array([0, 1, 2, 2]), np.array([4, 0], np.int32))
    both = together(rows, other, 5)
    assert (both.indptr.tolist(), both.indices.tolist()) == ([0, 2, 3, 4], [1, 4, 0, 2])
    left = without(rows, other, np.array([True, True, False, True, True]))
    assert (left.indptr.tolist(), left.indices.tolist()) == ([0, 1, 1, 1], [1])
