"""A log read batch by batch is the log read whole; compiled rows are the sorted pairs."""

import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrarec.data import interactions, parquet, rows
from contrarec.data.dataset import Dataset
from contrarec.data.interactions import Interactions
from contrarec.data.lookup import Lookup
from contrarec.data.readers import read_interactions, read_log
from contrarec.data.rows import RowBuilder, count, first_fall, pack, pack_reference
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import DataError

BATCH = 7


@pytest.fixture
def streaming(monkeypatch):
    """Make every log large, and batches small."""
    monkeypatch.setattr(rows, "SMALL", 0)
    monkeypatch.setattr(parquet, "_BATCH", BATCH)
    monkeypatch.setattr(interactions, "_BLOCK", 5)
    monkeypatch.setattr(rows, "_BLOCK", 5)


def expected(frame):
    """What a log is, from a dictionary: ids, pairs, last times, sums of weights, repetitions."""
    users, items = (sorted(set(frame[name].to_list())) for name in ("user", "item"))
    found = {}
    for row in frame.iter_rows(named=True):
        pair = users.index(row["user"]), items.index(row["item"])
        time, weight = found.get(pair, (-np.inf, 0.0))
        found[pair] = max(time, row.get("time", 0)), weight + row.get("weight", 0)
    pairs = sorted(found)
    return users, items, pairs, [found[pair] for pair in pairs], frame.height - len(pairs)


def assert_is(log, frame):
    users, items, pairs, values, n_duplicates = expected(frame)
    assert log.users.ids.to_list() == users
    assert log.items.ids.to_list() == items
    assert list(zip(log.rows.tolist(), log.indices.tolist(), strict=True)) == pairs
    assert (log.indptr.dtype, log.indices.dtype) == (np.int64, np.int32)
    assert log.n_duplicates == n_duplicates
    if "time" in frame.columns:
        assert log.time.tolist() == [time for time, _ in values]
    else:
        assert log.time is None
    if "weight" in frame.columns:
        assert log.weight.tolist() == [weight for _, weight in values]
        assert log.weight.dtype == np.float32
    else:
        assert log.weight is None


def make_log(rng, n, *, texts=True, time=None, weight=False):
    user, item = rng.integers(0, 12, n) * 7, rng.integers(-3, 5, n)
    columns = {"user": user, "item": item}
    if texts:
        columns = {name: [f"{name}{i}" for i in ids] for name, ids in columns.items()}
    if time is not None:
        columns["time"] = rng.integers(0, 50, n).astype(time)
    if weight:
        columns["weight"] = rng.integers(1, 9, n) / 4  # sums are exact in any order
    return pl.DataFrame(columns)


@pytest.mark.usefixtures("streaming")
@pytest.mark.parametrize("texts", [True, False], ids=["texts", "integers"])
@pytest.mark.parametrize("time", [None, np.int64, np.float64, np.int16])
@pytest.mark.parametrize("weight", [True, False], ids=["weighted", "plain"])
@pytest.mark.parametrize("n", [1, BATCH, BATCH + 1, 100])
def test_a_streamed_log_is_what_a_dictionary_makes_of_it(tmp_path, texts, time, weight, n):
    frame = make_log(np.random.default_rng(n), n, texts=texts, time=time, weight=weight)
    frame.write_parquet(tmp_path / "log.parquet", row_group_size=20)
    streamed = parquet.stream_parquet(tmp_path / "log.parquet", {})
    assert streamed is not None
    assert_is(streamed, frame)
    assert streamed.users.ids.dtype == (pl.String if texts else pl.Int64)


@pytest.mark.usefixtures("streaming")
def test_a_long_log_comes_in_larger_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_MOST_BATCHES", 3)
    frame = make_log(np.random.default_rng(0), 100, time=np.int64, weight=True)
    frame.write_parquet(tmp_path / "log.parquet", row_group_size=20)
    log = parquet._ParquetLog.open(tmp_path / "log.parquet", {})
    assert [len(batch) for batch in log.batches("user", "time")] == [34, 34, 32]
    assert_is(parquet.stream_parquet(tmp_path / "log.parquet", {}), frame)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(-5, 5), st.integers(-8, 8)),
        max_size=60,
    )
)
def test_compiled_rows_are_those_of_sorted_pairs(pairs):
    users, items, time, weight = np.array(pairs, dtype=np.int64).reshape(-1, 4).T
    for timed in (None, time, time / 2):
        for weighted in (None, weight / 4):
            want = pack_reference(users, items, 5, 4, timed, weighted)
            builder = RowBuilder(
                np.bincount(users, minlength=5),
                time=None if timed is None else timed.dtype,
                weighted=weighted is not None,
            )
            for start in range(0, len(users), 9):
                part = slice(start, start + 9)
                values = [None if v is None else v[part] for v in (timed, weighted)]
                builder.add(users[part], items[part], *values)
            for got, array in zip(builder.finish(), want, strict=True):
                np.testing.assert_array_equal(got, array)
                assert getattr(got, "dtype", None) == getattr(array, "dtype", None)


@pytest.mark.usefixtures("streaming")
def test_large_logs_are_packed_by_compiled_code(monkeypatch):
    monkeypatch.setattr(rows, "pack_reference", None)
    got = pack(np.array([1, 0, 1]), np.array([2, 0, 2]), 2, 3)
    assert (got.indptr.tolist(), got.indices.tolist(), got.n_duplicates) == ([0, 1, 2], [0, 2], 1)


def test_a_user_with_most_of_the_log_and_many_repetitions():
    rng = np.random.default_rng(0)
    items = rng.integers(0, 300, 200_000)
    users = (rng.random(200_000) < 0.1).astype(np.int64)
    builder = RowBuilder(np.bincount(users))
    builder.add(users, items)
    got = builder.finish()
    assert got.indices.tolist() == list(range(300)) * 2
    assert got.n_duplicates == 200_000 - 600
    assert got.indices.base is None  # no view that keeps the repetitions in memory


def test_counts_that_do_not_fit_the_pairs_are_refused():
    builder = RowBuilder(np.array([1, 1]))
    with pytest.raises(DataError, match="more pairs than were counted"):
        builder.add(np.array([0, 0]), np.array([1, 2]))
    builder = RowBuilder(np.array([1, 2]))
    builder.add(np.array([0, 1]), np.array([1, 2]))
    with pytest.raises(DataError, match="fewer pairs than were counted"):
        builder.finish()


@pytest.mark.parametrize("ids", [[], ["b"], ["b", "a", "ä", "a" * 40], [5, -3, 0, 2**62, -(2**62)]])
def test_a_lookup_finds_every_id(ids):
    vocabulary = Vocabulary(pl.Series(ids, dtype=None if ids else pl.String))
    asked = vocabulary.ids[::-1].append(vocabulary.ids)
    assert Lookup(vocabulary.ids)(asked).tolist() == vocabulary.index(asked).tolist()


def test_a_lookup_of_many_ids_is_that_of_a_join():
    ids = pl.Series(np.random.default_rng(0).permutation(50_000)).cast(pl.String)
    asked = ids.gather(np.random.default_rng(1).integers(0, 50_000, 200_000))
    assert np.array_equal(Lookup(ids)(asked), Vocabulary(ids).index(asked))
    assert Lookup(ids)(asked).dtype == np.int32


def test_what_a_lookup_lacks_is_told_by_the_ids_themselves(monkeypatch):
    from contrarec.data import lookup

    find = Lookup(pl.Series(["a", "b"]))
    assert find.missing(pl.Series(["b", "c", "a", "c", "b"])).to_list() == ["c", "c"]
    monkeypatch.setattr(lookup, "_keys", lambda ids, _: pl.Series([find._keys[0]] * len(ids)))
    assert find.missing(pl.Series(["c", "a", "d"])).to_list() == ["c", "d"]  # all hashes are a's


def test_hashes_that_coincide_are_replaced(monkeypatch):
    from contrarec.data import lookup

    true_keys, seeds = lookup._keys, []

    def keys(ids, seed):
        seeds.append(seed)
        return true_keys(ids, seed) * (0 if seed < 2 else 1)

    monkeypatch.setattr(lookup, "_keys", keys)
    assert Lookup(pl.Series(["a", "b"]))(pl.Series(["b", "a", "b"])).tolist() == [1, 0, 1]
    assert sorted(set(seeds)) == [0, 1, 2]


WRONG = [
    ({"user": pl.Series(["a"] * 19 + [None])}, "row 20: `user` is missing"),
    ({"user": pl.Series(["a"] * 8 + [""] + ["b"] * 11)}, "row 9: `user` is missing"),
    ({"item": pl.Series([1.0] * 15 + [1.5] + [2.5] * 4)}, "row 16: `item` must be .* got 1.5"),
    ({"item": pl.Series([1.0] * 15 + [float("nan")] * 5)}, "row 16: `item` is missing"),
    ({"user": pl.Series([[1]] * 20)}, "`user` must be texts or whole numbers, got the type List"),
    ({"user": pl.Series([True] * 20)}, "`user` must be .* got the type Boolean"),
    ({"item": pl.Series([None] * 20)}, "row 1: `item` is missing"),
    ({"time": pl.Series([1] * 14 + [None] * 6)}, "row 15: `time` is missing"),
    ({"time": pl.Series([True] * 20)}, "`time` must be numbers or dates"),
    ({"weight": pl.Series([1.0] * 13 + [float("inf")] * 7)}, "row 14: `weight` must be .* got inf"),
    ({"weight": pl.Series(["1"] * 13 + ["x"] * 7)}, "row 14: `weight` must be finite .* got 'x'"),
    # the first fault of the users comes before an earlier one of the items, as in a log read whole
    (
        {"user": pl.Series(["a"] * 19 + [None]), "item": pl.Series([None] + [1] * 19)},
        "row 20: `user` is missing",
    ),
]


@pytest.mark.usefixtures("streaming")
@pytest.mark.parametrize(("columns", "message"), WRONG)
def test_a_fault_in_any_batch_is_told_as_in_a_log_read_whole(tmp_path, columns, message):
    frame = pl.DataFrame({"user": range(20), "item": range(20)}).with_columns(**columns)
    path = tmp_path / "log.parquet"
    frame.write_parquet(path)
    with pytest.raises(DataError, match=message) as whole:
        read_log(path)
    with pytest.raises(DataError) as streamed:
        read_interactions(path, {})
    assert str(streamed.value) == str(whole.value)


@pytest.mark.usefixtures("streaming")
@pytest.mark.parametrize("dtype", [pl.Categorical, pl.Enum(["c", "a", "b"]), pl.UInt8, pl.Float32])
def test_ids_of_other_types_are_in_the_same_order(tmp_path, dtype):
    texts = dtype not in (pl.UInt8, pl.Float32)
    ids = pl.Series(["b", "c", "a", "b"] if texts else [2, 3, 1, 2]).cast(dtype)
    pl.DataFrame({"user": ids, "item": [1, 1, 1, 2]}).write_parquet(tmp_path / "x.parquet")
    log = parquet.stream_parquet(tmp_path / "x.parquet", {})
    assert log.users.ids.to_list() == (["a", "b", "c"] if texts else [1, 2, 3])
    assert log.indptr.tolist() == [0, 1, 3, 4]


@pytest.mark.usefixtures("streaming")
def test_times_as_texts_are_read_whole(tmp_path):
    dates = [f"2024-01-{day:02}" for day in range(1, 21)]
    frame = pl.DataFrame({"user": range(20), "item": range(20), "time": dates})
    frame.write_parquet(tmp_path / "x.parquet")
    log = Dataset.load(tmp_path / "x.parquet").train
    assert np.diff(log.time).tolist() == [86_400_000_000] * 19


@pytest.mark.usefixtures("streaming")
def test_dates_are_streamed(tmp_path):
    frame = pl.DataFrame({"user": range(20), "item": range(20), "time": range(20)})
    frame = frame.with_columns(pl.col("time").cast(pl.Date))
    frame.write_parquet(tmp_path / "x.parquet")
    log = parquet.stream_parquet(tmp_path / "x.parquet", {})
    assert np.diff(log.time).tolist() == [86_400_000_000] * 19


@pytest.mark.usefixtures("streaming")
def test_columns_are_renamed_even_when_their_names_are_taken(tmp_path):
    frame = pl.DataFrame({"item": ["x"] * 9, "user": ["p"] * 9, "row number": range(9)})
    frame.write_parquet(tmp_path / "x.parquet")
    log = read_interactions(tmp_path / "x.parquet", {"user": "item", "item": "row number"})
    assert log.users.ids.to_list() == ["x"]
    assert log.indices.tolist() == list(range(9))


@pytest.mark.usefixtures("streaming")
def test_what_is_no_parquet_file(tmp_path):
    (tmp_path / "x.parquet").write_text("no parquet")
    with pytest.raises(DataError, match=r"^" + re.escape(str(tmp_path)) + ".*not a sound Parquet"):
        read_interactions(tmp_path / "x.parquet", {})
    with pytest.raises(DataError, match="no such file"):
        read_interactions(tmp_path / "nothing.parquet", {})


def test_small_logs_load_no_compiled_code(tmp_path):
    make_log(np.random.default_rng(0), 50).write_parquet(tmp_path / "x.parquet")
    assert parquet.stream_parquet(tmp_path / "x.parquet", {}) is None


@pytest.mark.usefixtures("streaming")
def test_falls_are_found_at_the_edges_of_blocks():
    indptr = np.array([0, 5, 5, 12])
    sound = np.array([1, 2, 3, 4, 9, 0, 1, 2, 3, 4, 5, 6], dtype=np.int32)
    assert first_fall(indptr, sound) is None
    for place in set(range(1, 12)) - {5}:
        broken = sound.copy()
        broken[place] = broken[place - 1]
        assert first_fall(indptr, broken) == place
    assert first_fall(np.array([0, 12]), sound) == 5


@pytest.mark.usefixtures("streaming")
def test_counts_are_those_of_bincount():
    index = np.random.default_rng(0).integers(0, 6, 33, dtype=np.int32)
    assert count(index, 8).tolist() == np.bincount(index, minlength=8).tolist()


@pytest.mark.usefixtures("streaming")
def test_set_operations_in_blocks_are_those_of_python_sets():
    rng = np.random.default_rng(0)
    users, items = Vocabulary.of(range(20)), Vocabulary.of(range(9))
    for _ in range(20):
        sides = [
            Interactions.from_pairs(*rng.integers(0, 9, (2, n)), users=users, items=items)
            for n in rng.integers(0, 60, 2)
        ]
        left, right = (set(zip(s.rows.tolist(), s.indices.tolist(), strict=True)) for s in sides)
        both = sides[0].select(sides[0].isin(sides[1]))
        assert list(zip(both.rows, both.indices, strict=True)) == sorted(left & right)
        rest = sides[0].select(~sides[0].isin(sides[1]))
        assert list(zip(rest.rows, rest.indices, strict=True)) == sorted(left - right)
        union = sides[0].union(sides[1])
        assert list(zip(union.rows, union.indices, strict=True)) == sorted(left | right)


@pytest.mark.usefixtures("streaming")
def test_blocks_of_users_are_as_large_as_they_may_be():
    counts = [2, 3, 1, 0, 9, 0, 4, 1, 5]  # blocks of 5, or one user with more
    users, items = np.repeat(range(9), counts), np.concatenate([range(n) for n in counts])
    names = Vocabulary.of(range(9)), Vocabulary.of(range(9))
    log = Interactions.from_pairs(users, items.astype(int), users=names[0], items=names[1])
    blocks = [range(2), range(2, 4), range(4, 5), range(5, 8), range(8, 9)]
    assert list(log._blocks()) == blocks


def test_a_mask_is_shared_where_nothing_is_taken_out_of_it():
    pairs = [pl.DataFrame({"user": [1, 2], "item": [i, i]}) for i in range(4)]
    data = Dataset.from_parts(train=pairs[0], valid=pairs[1], tests={"a": pairs[2], "b": pairs[3]})
    assert data.valid.mask is data.train
    assert data.tests["a"].mask is data.tests["b"].mask
