"""Ids and their indices."""

import numpy as np
import polars as pl
import pytest

from contrarec.data.vocabulary import Vocabulary, common_type
from contrarec.errors import DataError


def test_integers_are_ordered_by_value_and_texts_by_code_point():
    assert Vocabulary.of([10, 9, 10, -1]).ids.to_list() == [-1, 9, 10]
    assert Vocabulary.of(["9", "10", "b", "B"]).ids.to_list() == ["10", "9", "B", "b"]


def test_index_follows_the_order_asked_for_and_marks_unknown_ids():
    vocabulary = Vocabulary(pl.Series([30, 10, 20]))
    asked = [20, 99, 30, 20]
    for ids in (asked, np.array(asked, dtype=np.int32), pl.Series(asked), map(int, asked)):
        index = vocabulary.index(ids)
        assert index.tolist() == [2, -1, 0, 2]
        assert index.dtype == np.int64
        assert index.flags.writeable


def test_index_of_nothing():
    assert Vocabulary.of([1, 2]).index([]).tolist() == []
    assert Vocabulary.of([]).index([1]).tolist() == [-1]


def test_index_compares_ids_of_another_type_by_value():
    numbers, texts = Vocabulary.of([3, 7]), Vocabulary.of(["3", "x"])
    assert numbers.index(["7", "x", "7.5"]).tolist() == [1, -1, -1]
    assert numbers.index([7.0, 7.5, float("nan")]).tolist() == [1, -1, -1]
    assert texts.index([3, 4]).tolist() == [0, -1]
    assert texts.index([3.0, 3.5]).tolist() == [0, -1]


def test_take_is_the_inverse_of_index():
    vocabulary = Vocabulary(pl.Series(["u2", "u9", "u1"]))
    assert vocabulary.take(np.array([2, 0])).to_list() == ["u1", "u2"]
    assert vocabulary.take(vocabulary.index(["u9"])).to_list() == ["u9"]
    assert vocabulary.take(np.array([], dtype=np.int32)).to_list() == []


def test_extend_keeps_the_indices_of_known_ids():
    old = Vocabulary(pl.Series([5, 3]))
    new = old.extend([9, 3, 1, 9])
    assert new.ids.to_list() == [5, 3, 9, 1]
    assert old.ids.to_list() == [5, 3]
    assert old.extend([]) == old
    assert old.extend(["a"]).ids.to_list() == ["5", "3", "a"]


def test_equality_is_by_content_and_order():
    assert Vocabulary.of([1, 2]) == Vocabulary.of([2, 1])
    assert Vocabulary.of([1, 2]) != Vocabulary(pl.Series([2, 1]))
    assert Vocabulary.of([1, 2]) != Vocabulary.of(["1", "2"])
    assert Vocabulary.of([1]) != "1"


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (np.array([1, 2], dtype=np.uint16), pl.Int64),
        ([1.0, 2.0], pl.Int64),
        (pl.Series(["a", "b"], dtype=pl.Categorical), pl.String),
        (np.array(["a", "b"]), pl.String),
        (np.array(["a", "b"], dtype=object), pl.String),
    ],
)
def test_ids_become_integers_or_texts(ids, expected):
    vocabulary = Vocabulary.of(ids)
    assert vocabulary.ids.dtype == expected
    assert len(vocabulary) == 2


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, None], "missing, got None at position 1"),
        ([1.0, float("nan")], "missing, got nan at position 1"),
        ([1.0, 2.5], "got 2.5"),
        ([True, False], "Boolean"),
        ([1, "a"], "all texts or all whole numbers"),
        (np.array([2**63], dtype=np.uint64), "got 9223372036854775808"),
    ],
)
def test_what_is_no_id_is_refused(ids, message):
    with pytest.raises(DataError, match=message):
        Vocabulary.of(ids)


def test_a_repeated_id_is_refused():
    with pytest.raises(DataError, match="unique, got 7 more than once"):
        Vocabulary(pl.Series([3, 7, 7]))


def test_one_text_makes_all_ids_texts_but_an_empty_part_decides_nothing():
    mixed = common_type([pl.Series([7, 1]), pl.Series(["7", "b"])])
    assert [part.to_list() for part in mixed] == [["7", "1"], ["7", "b"]]
    empty = common_type([pl.Series([7]), pl.Series([], dtype=pl.String)])
    assert [part.dtype for part in empty] == [pl.Int64, pl.Int64]
