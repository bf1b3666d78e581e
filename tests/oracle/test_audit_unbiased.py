"""Weighed metrics against double loops and by hand."""

import numpy as np
import pytest

from contrarec.audit.unbiased import (
    Weights,
    make_weights,
    mean_over,
    ratio,
    unbiased_metrics,
    user_sums,
)
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import ConfigError

N_USERS, N_ITEMS, K = 15, 12, 4


def random_case(seed: int) -> tuple[Interactions, np.ndarray, np.ndarray, np.ndarray]:
    """Positives, users with any, their lists (some short) and a weight for each positive."""
    rng = np.random.default_rng(seed)
    pairs = np.argwhere(rng.random((N_USERS, N_ITEMS)) < 0.3)
    truth = Interactions.from_pairs(
        pairs[:, 0],
        pairs[:, 1],
        users=Vocabulary.of(range(N_USERS)),
        items=Vocabulary.of(range(N_ITEMS)),
    )
    users = np.flatnonzero(truth.user_counts)
    lists = np.stack([rng.permutation(N_ITEMS)[:K] for _ in users]).astype(np.int32)
    lists[::4, K - 1] = -1  # the key of (user, −1) is that of the user before, item n − 1
    return truth, users, lists, rng.uniform(1, 9, truth.nnz)


def weight_of(truth: Interactions, values: np.ndarray, user: int, item: int) -> float | None:
    for number in range(truth.indptr[user], truth.indptr[user + 1]):
        if truth.indices[number] == item:
            return float(values[number])
    return None


@pytest.mark.parametrize("seed", range(4))
def test_sums_against_a_double_loop(seed: int) -> None:
    truth, users, lists, values = random_case(seed)
    sums = user_sums(lists, users, truth, values)
    for row, user in enumerate(users):
        found = dcg = 0.0
        for rank, item in enumerate(lists[row], start=1):
            weight = weight_of(truth, values, user, item) if item >= 0 else None
            if weight is not None:
                found += weight
                dcg += weight / np.log2(rank + 1)
        assert sums[row] == pytest.approx([found, dcg])


def test_with_equal_propensities_nothing_changes() -> None:
    truth, users, lists, _ = random_case(0)
    weights = make_weights(np.full(truth.nnz, 0.25), n_population=N_USERS)
    plain = user_sums(lists, users, truth, np.ones(truth.nnz))
    weighed = user_sums(lists, users, truth, weights.values)
    for found in unbiased_metrics(plain, weighed, users, truth, weights, K):
        assert found.snips == pytest.approx(found.plain)
        assert found.ips is None
    assert weights.effective == pytest.approx(truth.nnz)


def test_estimates_by_hand() -> None:
    # user 0 has items 0 (p = ½) and 1 (p = ¼), user 1 has item 2 (p = 1)
    truth = Interactions.from_pairs(
        np.array([0, 0, 1]),
        np.array([0, 1, 2]),
        users=Vocabulary.of(range(2)),
        items=Vocabulary.of(range(3)),
    )
    users, lists = np.array([0, 1]), np.array([[0, 2], [1, 2]])
    weights = make_weights(np.array([0.5, 0.25, 1.0]), clip=0, scale=0.1, n_population=5)
    assert weights.values.tolist() == [2, 4, 1]
    plain = user_sums(lists, users, truth, np.ones(3))
    weighed = user_sums(lists, users, truth, weights.values)
    recall, dcg = unbiased_metrics(plain, weighed, users, truth, weights, 2)
    assert (recall.metric, dcg.metric) == ("recall@2", "dcg@2")
    assert recall.plain[0] == pytest.approx(2 / 3)  # 0 and 2 are found
    assert recall.snips[0] == pytest.approx((2 + 1) / (2 + 4 + 1))
    assert dcg.snips[0] == pytest.approx((2 + 1 / np.log2(3)) / 7)
    assert recall.ips is not None
    assert recall.ips[0] == pytest.approx((2 + 1) / (0.1 * 5))  # per user of the data
    assert weights.effective == pytest.approx(7**2 / (4 + 16 + 1))
    assert weights.small


def test_intervals_by_hand() -> None:
    # residuals found − ½·total: ½, −½, 0
    value, low, high = ratio(np.array([1.0, 0.0, 1.0]), np.array([1.0, 1.0, 2.0]))
    assert value == 0.5
    assert (high - low) / 2 == pytest.approx(1.959964 * np.sqrt(0.5) / 4, rel=1e-6)
    # ten users, of whom one has 2: mean .2, variance (4/10 − .04)/10
    value, low, high = mean_over(np.array([2.0]), 10, 0.5)
    assert value == pytest.approx(0.4)
    assert (high - low) / 2 == pytest.approx(1.959964 * np.sqrt(0.036) / 0.5, rel=1e-6)


def test_clipping() -> None:
    weights = make_weights(np.array([0.001, 0.05, 1.0, 0.02]), clip=0.05, n_population=1)
    assert weights.values.tolist() == [20, 20, 1, 20]
    assert weights.clipped == 0.5
    with pytest.raises(ConfigError, match="`clip` must be at least 0 and below 1, got 1"):
        make_weights(np.array([1.0]), clip=1, n_population=1)


@pytest.mark.parametrize(
    ("values", "small"),
    [
        (np.ones(99), True),
        (np.ones(101), False),
        (np.concatenate([np.ones(5000), np.full(10, 3000.0)]), True),  # worth 14 of 5010
        (np.concatenate([np.ones(5000), np.full(200, 300.0)]), True),  # worth 235 of 5200
        (np.concatenate([np.ones(5000), np.full(900, 30.0)]), False),  # worth 1260 of 5900
    ],
)
def test_when_an_effective_sample_is_small(values: np.ndarray, small: bool) -> None:
    weights = Weights(values=values, clip=0.0, clipped=0.0, scale=None, n_population=1)
    assert weights.small is small
