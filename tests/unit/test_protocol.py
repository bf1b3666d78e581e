"""A small world evaluated by hand, and what travels with the result."""

import json

import numpy as np
import pytest
import torch

from contrarec.data import dataset
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import ConfigError, DataError
from contrarec.evaluation.metrics import METRICS
from contrarec.evaluation.protocol import evaluate, popularity_groups, rank_here, ranked_once

LOG2_3 = 1.584962500721156

# Scores of 4 users for 6 items; user 2 has no positive.
SCORES = torch.tensor(
    [
        [0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        [0.5, 0.5, 0.5, 0.5, 0.5, 0.5],
        [0.2, 0.9, 0.2, 0.9, 0.2, 0.9],
    ]
)
TRUTH = {0: [1, 3], 1: [0], 3: [5]}
MASK = {0: [0], 1: [5, 4], 3: [2]}
# Lists of three: user 0 → 1, 2, 3; user 1 → 3, 2, 1; user 3 → 1, 3, 5.


def interactions(pairs, n_users=4, n_items=6):
    flat = np.array([(u, i) for u, row in pairs.items() for i in row], np.int64).reshape(-1, 2)
    return Interactions.from_pairs(
        flat[:, 0], flat[:, 1],
        users=Vocabulary.of(range(n_users)), items=Vocabulary.of(range(n_items)),
    )  # fmt: skip


def make_test(truth=TRUTH, mask=MASK, candidates=None):
    return dataset.TestSet(
        name="ood", truth=interactions(truth), mask=interactions(mask) if mask else None,
        masked=("train", "valid") if mask else (),
        candidates=None if candidates is None else np.array(candidates, np.int32),
    )  # fmt: skip


def scorer(users):
    return SCORES[users]


def test_by_hand():
    result = evaluate(scorer, make_test(), ks=(3, 1))
    assert result.users.tolist() == [0, 1, 3]
    assert result.per_user["recall@3"].tolist() == [1, 0, 1]
    assert result.per_user["precision@3"] == pytest.approx([2 / 3, 0, 1 / 3])
    assert result.per_user["mrr@3"] == pytest.approx([1, 0, 1 / 3])
    # User 0: hits at ranks 1 and 3, ideal 1 and 2; user 3: rank 3.
    dcg = [(1 + 1 / 2) / (1 + 1 / LOG2_3), 0, 1 / 2]
    assert result.per_user["ndcg@3"] == pytest.approx(dcg)
    assert result.per_user["recall@1"].tolist() == [0.5, 0, 0]
    means = result.metrics()
    assert set(means) == {f"{kind}@{k}" for kind in METRICS for k in (1, 3)}
    assert means["recall@3"] == pytest.approx(2 / 3)
    assert means["map@3"] == pytest.approx(((1 / 1 + 2 / 3) / 2 + 0 + 1 / 3) / 3)
    assert result.n_without_truth == 1
    assert result.n_truth == 4
    assert (result.n_unreachable, result.n_candidates) == (0, 6)
    assert result.masked == ("train", "valid")
    assert result.intervals == {}
    assert result.groups == {}


def test_without_a_mask_the_seen_items_are_in_the_way():
    result = evaluate(scorer, make_test(mask=None), ks=(3,), metrics=("hit",))
    assert result.per_user["hit@3"].tolist() == [1, 0, 1]
    assert evaluate(scorer, make_test(mask=None), ks=(1,)).metrics()["hit@1"] == 0
    assert result.masked == ()


def test_candidates_restrict_the_ranking_not_the_truth():
    # User 0 → 3, 4, 5; user 1 → 3; user 3 → 3, 5, 4. Items 0 and 1 are out of reach.
    result = evaluate(scorer, make_test(candidates=[3, 4, 5]), ks=(2,))
    assert result.per_user["recall@2"].tolist() == [1 / 2, 0, 1]
    assert (result.n_candidates, result.n_unreachable) == (3, 2)


def test_items_that_the_model_does_not_know_are_misses():
    # Items 3, 4 and 5 are new: user 0 → 1, 2; user 1 → 2, 1, 0; user 3 → 1, 0.
    result = evaluate(lambda users: SCORES[users, :3], make_test(), ks=(3,), n_items=3)
    assert result.per_user["recall@3"].tolist() == [1 / 2, 1, 0]
    # The ideal list keeps both positives of user 0.
    assert result.per_user["ndcg@3"] == pytest.approx([1 / (1 + 1 / LOG2_3), 1 / 2, 0])
    assert (result.n_candidates, result.n_unreachable, result.n_truth) == (3, 2, 4)


def test_popularity_groups_hold_about_a_third_each():
    # Sorted: 5 | 4 | 2 1 0; before them 0, 5, 9, 11, 12 of 12, thirds at 4 and 8.
    assert popularity_groups(np.array([1, 5, 0, 4, 2])).tolist() == [2, 0, 2, 1, 2]
    # Equal counts: by index, exactly a third each.
    assert popularity_groups(np.full(6, 7)).tolist() == [0, 0, 1, 1, 2, 2]
    # One item holds nearly everything: it is the head, and the rest is tail.
    assert popularity_groups(np.array([1, 1, 98])).tolist() == [2, 2, 0]
    assert popularity_groups(np.zeros(3, int)).tolist() == [2, 2, 2]
    counts = np.random.default_rng(0).zipf(1.5, size=3_000).clip(max=2_000)
    shares = np.bincount(popularity_groups(counts), weights=counts) / counts.sum()
    np.testing.assert_allclose(shares, 1 / 3, atol=2_000 / counts.sum())
    head, middle, tail = (counts[popularity_groups(counts) == g] for g in range(3))
    assert head.min() >= middle.max()
    assert middle.min() >= tail.max()


def test_groups_by_hand():
    # Before items 1 4 | 0 5 | 2 3 lie 0 7 | 13 18 | 23 27 of 30: thirds at 10 and 20.
    counts = np.array([5, 7, 4, 3, 6, 5])
    assert popularity_groups(counts).tolist() == [1, 0, 2, 2, 0, 1]
    result = evaluate(scorer, make_test(), ks=(3,), groups=True, item_counts=counts)
    head, middle, tail = (result.groups[name] for name in ("head", "middle", "tail"))
    nan = np.nan
    # User 0 has one positive in the head, found at rank 1, and one in the tail, found at rank 3
    # of a list that stays as it is; each is all that its group asks for.
    np.testing.assert_array_equal(head.per_user["recall@3"], [1, nan, nan])
    np.testing.assert_array_equal(head.per_user["ndcg@3"], [1, nan, nan])
    np.testing.assert_array_equal(tail.per_user["recall@3"], [1, nan, nan])
    np.testing.assert_allclose(tail.per_user["ndcg@3"], [1 / 2, nan, nan])
    # Item 0 of user 1 is missed, item 5 of user 3 found at rank 3.
    np.testing.assert_array_equal(middle.per_user["hit@3"], [nan, 0, 1])
    assert middle.metrics() == {"recall@3": 0.5, "ndcg@3": 0.25, "hit@3": 0.5}
    assert (head.n_users, middle.n_users, tail.n_users) == (1, 2, 1)
    assert (head.n_truth, middle.n_truth, tail.n_truth) == (1, 2, 1)
    assert (head.n_items, middle.n_items, tail.n_items) == (2, 2, 2)
    assert [g.train_share for g in (head, middle, tail)] == pytest.approx([13 / 30, 1 / 3, 7 / 30])


def test_group_counts_beyond_the_model_are_zero():
    short = evaluate(scorer, make_test(), ks=(3,), groups=True, item_counts=np.array([5, 9, 4]))
    padded = np.array([5, 9, 4, 0, 0, 0])
    full = evaluate(scorer, make_test(), ks=(3,), groups=True, item_counts=padded)
    assert {n: g.to_dict() for n, g in short.groups.items()} == {
        n: g.to_dict() for n, g in full.groups.items()
    }


def test_intervals_and_json():
    rng = np.random.default_rng(1)
    truth = {u: rng.choice(30, 1 + u % 4, replace=False) for u in range(80)}
    scores = torch.tensor(rng.random((80, 30)), dtype=torch.float32)
    test = dataset.TestSet(name="test", truth=interactions(truth, 80, 30))
    options = {"ks": (5,), "bootstrap": 200, "groups": True, "item_counts": np.arange(30)}
    result = evaluate(lambda users: scores[users], test, **options, rng=1)
    assert set(result.intervals) == set(result.metrics())
    for name, mean in result.metrics().items():
        low, high = result.intervals[name]
        assert low < mean < high
    for group in result.groups.values():
        assert set(group.intervals) == {"recall@5", "ndcg@5", "hit@5"}
        for name, mean in group.metrics().items():
            assert group.intervals[name][0] < mean < group.intervals[name][1]

    report = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert report["metrics"] == result.metrics()
    assert report["intervals"]["ndcg@5"] == list(result.intervals["ndcg@5"])
    assert report["groups"]["tail"]["metrics"] == result.groups["tail"].metrics()
    assert (report["users"], report["users_without_positives"]) == (80, 0)
    assert set(METRICS) < set(report["definitions"])
    assert report["masked"] == []

    again = evaluate(lambda users: scores[users], test, **options, rng=1)
    other = evaluate(lambda users: scores[users], test, **options, rng=2)
    assert again.to_dict() == result.to_dict()
    assert other.metrics() == result.metrics()
    assert other.intervals != result.intervals


def test_a_group_without_positives_has_no_metrics():
    counts = np.array([5, 7, 4, 6, 3, 5])  # tail: items 2 and 4
    result = evaluate(
        scorer, make_test(), ks=(3,), groups=True, item_counts=counts, bootstrap=50
    )  # fmt: skip
    tail = result.groups["tail"]
    assert (tail.n_users, tail.metrics(), tail.intervals) == (0, {}, {})
    json.dumps(result.to_dict(), allow_nan=False)


def test_block_size_and_backend_change_nothing():
    results = [
        evaluate(scorer, make_test(), block_size=size, backend=backend).to_dict()
        for size in (1, 3, None)
        for backend in ("auto", "reference")
    ]
    assert all(result == results[0] for result in results)


class Counted:
    """Scores, and for whom."""

    def __init__(self):
        self.users = []

    def __call__(self, users):
        self.users += users.tolist()
        return scorer(users)


@pytest.mark.parametrize(
    ("second", "scored"),
    [
        ({"mask": MASK}, [0, 1, 2, 3]),  # users 0, 1 and 3 of the first, 1 and 2 of the second
        ({"mask": {**MASK, 1: [4]}}, [0, 1, 3, 1, 2]),
        ({"mask": {**MASK, 1: [5, 3]}}, [0, 1, 3, 1, 2]),
        ({"mask": None}, [0, 1, 3, 1, 2]),
        ({"mask": MASK, "candidates": np.array([0, 2, 4], np.int32)}, [0, 1, 3, 1, 2]),
    ],
)
def test_a_user_is_ranked_once_for_all_sets_that_leave_out_the_same(second, scored):
    tests = [make_test(), make_test({1: [2], 2: [0, 5]}, **second)]
    counted, ks = Counted(), (1, 3)
    rank = ranked_once(tests, rank_here)
    for test in tests:
        found, alone = evaluate(counted, test, ks, rank=rank), evaluate(scorer, test, ks)
        assert found.lists.tolist() == alone.lists.tolist()
        assert found.users.tolist() == alone.users.tolist()
        assert found.metrics() == alone.metrics()
    assert counted.users == scored


def test_refusals():
    test = make_test()
    with pytest.raises(ConfigError, match=r"unknown metric 'ndgc' \(did you mean 'ndcg'\?\)"):
        evaluate(scorer, test, metrics=("ndgc",))
    with pytest.raises(ConfigError, match="at least one metric"):
        evaluate(scorer, test, metrics=())
    for ks in ((), (5, 0)):
        with pytest.raises(ConfigError, match="`ks` must be cutoffs of at least 1"):
            evaluate(scorer, test, ks=ks)
    with pytest.raises(ConfigError, match=r"`groups` needs `item_counts` .*, got none"):
        evaluate(scorer, test, groups=True)
    with pytest.raises(ConfigError, match="at most 6 items, got 7 counts"):
        evaluate(scorer, test, groups=True, item_counts=np.ones(7, int))
    for n_items in (0, 7):
        with pytest.raises(ConfigError, match=f"between 1 and the 6 items .*, got {n_items}"):
            evaluate(scorer, test, n_items=n_items)
    with pytest.raises(ConfigError, match="`bootstrap` must be at least 0, got -1"):
        evaluate(scorer, test, bootstrap=-1)
    with pytest.raises(DataError, match="test set `ood` must have a user with a positive"):
        evaluate(scorer, make_test(truth={}))


@pytest.mark.parametrize(
    ("name", "recall", "ndcg"), [("coat", 0.169, 0.081), ("yahoo-r3", 0.095, 0.041)]
)
def test_popularity_on_real_data(data_dir, name, recall, ndcg):
    # Measured by other code under the same protocol (train + valid masked, all items ranked).
    data = dataset.Dataset.from_folder(data_dir(name))
    counts = torch.from_numpy(np.asarray(data.train.item_counts, np.float32))
    result = evaluate(lambda users: counts.expand(len(users), -1), data.tests["ood"], ks=(20,))
    assert result.metrics()["recall@20"] == pytest.approx(recall, abs=6e-4)
    assert result.metrics()["ndcg@20"] == pytest.approx(ndcg, abs=6e-4)
    assert result.masked == ("train", "valid")
