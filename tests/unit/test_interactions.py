"""CSR interactions, against dictionaries of pairs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import DataError

USERS, ITEMS = Vocabulary.of(["a", "b", "c"]), Vocabulary.of([10, 20, 30, 40])


def make(pairs, **columns):
    index = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return Interactions.from_pairs(index[:, 0], index[:, 1], users=USERS, items=ITEMS, **columns)


def pairs_of(log):
    return list(zip(log.rows.tolist(), log.indices.tolist(), strict=True))


def test_pairs_in_any_order_become_sorted_rows():
    log = make([(2, 1), (0, 3), (2, 0), (0, 0)])
    assert log.indptr.tolist() == [0, 2, 2, 4]
    assert log.indices.tolist() == [0, 3, 0, 1]
    assert (log.indptr.dtype, log.indices.dtype) == (np.int64, np.int32)
    assert (log.n_users, log.n_items, log.nnz, len(log)) == (3, 4, 4, 4)
    assert log.user_counts.tolist() == [2, 0, 2]
    assert log.item_counts.tolist() == [2, 1, 0, 1]
    assert log.rows.tolist() == [0, 0, 2, 2]


def test_repeated_pairs_keep_the_last_time_and_the_sum_of_weights():
    log = make(
        [(1, 2), (0, 1), (1, 2), (1, 0), (1, 2)],
        time=np.array([5, 1, 9, 3, 7]),
        weight=np.array([1.0, 2.0, 4.0, 8.0, 16.0]),
    )
    assert pairs_of(log) == [(0, 1), (1, 0), (1, 2)]
    assert log.time.tolist() == [1, 3, 9]
    assert log.weight.tolist() == [2.0, 8.0, 21.0]  # 1 + 4 + 16
    assert log.weight.dtype == np.float32
    assert log.n_duplicates == 2


def test_no_interactions_at_all():
    log = make([], time=np.zeros(0, dtype=np.int64))
    assert (log.nnz, log.n_duplicates) == (0, 0)
    assert log.indptr.tolist() == [0, 0, 0, 0]
    assert log.select(np.zeros(0, dtype=bool)).nnz == 0
    assert log.union(log).nnz == 0
    nobody = Vocabulary.of([])
    assert Interactions.from_pairs(log.rows, log.indices, users=nobody, items=nobody).nnz == 0


pair_lists = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=20)


@settings(max_examples=60, deadline=None)
@given(pair_lists, pair_lists)
def test_set_operations_are_those_of_python_sets(left, right):
    a, b = make(left), make(right)
    assert pairs_of(a) == sorted(set(left))
    assert a.n_duplicates == len(left) - len(set(left))
    assert pairs_of(a.union(b)) == sorted(set(left) | set(right))
    assert a.union(b).n_duplicates == 0
    assert pairs_of(a.select(a.isin(b))) == sorted(set(left) & set(right))
    assert pairs_of(a.select(~a.isin(b))) == sorted(set(left) - set(right))


def test_select_takes_time_and_weight_along():
    log = make([(0, 0), (0, 2), (2, 1)], time=np.array([4, 5, 6]), weight=np.array([1.0, 2.0, 3.0]))
    part = log.select(np.array([False, True, True]))
    assert pairs_of(part) == [(0, 2), (2, 1)]
    assert part.time.tolist() == [5, 6]
    assert part.weight.tolist() == [2.0, 3.0]
    assert log.nnz == 3


def test_union_keeps_what_both_sides_have():
    timed = make([(0, 0), (1, 1)], time=np.array([4, 5]), weight=np.array([1.0, 1.0]))
    later = make([(1, 1), (2, 2)], time=np.array([8, 9]))
    both = timed.union(later)
    assert both.time.tolist() == [4, 8, 9]
    assert both.weight is None


def test_reindex_keeps_pairs_by_id_and_their_values():
    log = make([(0, 0), (0, 3), (2, 1)], time=np.array([1, 2, 3]))
    users, items = Vocabulary.of(["z", "c", "a", "b"]), Vocabulary.of([40, 20, 15, 10, 5, 30])
    moved = log.reindex(users, items)

    def by_id(of):
        columns = (of.users.take(of.rows), of.items.take(of.indices), of.time.tolist())
        return set(zip(*columns, strict=True))

    assert by_id(moved) == {("a", 10, 1), ("a", 40, 2), ("c", 20, 3)} == by_id(log)
    assert (moved.n_users, moved.n_items) == (4, 6)


def test_reindex_into_a_vocabulary_in_another_order():
    log = make([(0, 0), (1, 1)], weight=np.array([1.0, 2.0]))
    items = Vocabulary(ITEMS.ids.reverse())
    moved = log.reindex(USERS, items)
    assert moved.indices.tolist() == [3, 2]
    assert moved.weight.tolist() == [1.0, 2.0]


def test_reindex_names_the_id_that_is_not_there():
    log = make([(0, 0), (2, 3)])
    with pytest.raises(DataError, match="item 40 is not in the vocabulary"):
        log.reindex(USERS, Vocabulary.of([10, 20]))
    with pytest.raises(DataError, match="user 'a' is not in the vocabulary"):
        log.reindex(Vocabulary.of(["c"]), ITEMS)
    assert log.reindex(USERS, Vocabulary.of([10, 40])).n_items == 2  # 20 and 30 have no pair


def test_reindex_keeps_the_count_of_duplicates():
    log = make([(0, 0), (0, 0)])
    assert log.reindex(Vocabulary.of(["a"]), ITEMS).n_duplicates == 1


def test_to_scipy_has_ones_or_the_weights():
    log = make([(0, 3), (2, 0)])
    dense = log.to_scipy().toarray()
    assert dense.dtype == np.float32
    assert dense.tolist() == [[0, 0, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    weighted = make([(0, 3), (2, 0)], weight=np.array([2.5, 4.0]))
    assert weighted.to_scipy().toarray()[[0, 2], [3, 0]].tolist() == [2.5, 4.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"indptr": np.array([0, 1, 2])}, r"must have shape \(4,\)"),
        ({"indptr": np.array([0, 2, 1, 2])}, "rise from 0 to 2, got"),
        ({"indptr": np.array([0, 1, 1, 3])}, "rise from 0 to 2"),
        ({"indices": np.array([0, 4], dtype=np.int32)}, r"lie in \[0, 4\), got 0 to 4"),
        ({"indices": np.array([1, 1], dtype=np.int32)}, "strictly ascending"),
        ({"time": np.array([1])}, r"`time` must have shape \(2,\), got \(1,\)"),
    ],
)
def test_unsound_rows_are_refused(changes, message):
    sound = {
        "indptr": np.array([0, 2, 2, 2]),
        "indices": np.array([0, 1], dtype=np.int32),
        "users": USERS,
        "items": ITEMS,
    }
    assert Interactions(**sound).nnz == 2
    with pytest.raises(DataError, match=message):
        Interactions(**sound | changes)


def test_an_index_outside_the_vocabulary_is_refused():
    with pytest.raises(DataError, match=r"`item_index` must lie in \[0, 4\), got 4"):
        make([(0, 4)])
    with pytest.raises(DataError, match=r"`user_index` must lie in \[0, 3\), got -1"):
        make([(-1, 0)])


def test_other_vocabularies_are_refused_in_set_operations():
    log = make([(0, 0)])
    other = Interactions.from_pairs(log.rows, log.indices, users=USERS, items=Vocabulary.of([1]))
    with pytest.raises(DataError, match="same vocabularies"):
        log.union(other)


def test_a_wrong_selection_is_refused():
    with pytest.raises(DataError, match=r"must be bool \[1\], got int64"):
        make([(0, 0)]).select(np.array([1]))
