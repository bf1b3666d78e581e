"""What lists are made of, against double loops and small cases by hand."""

import numpy as np
import pytest

from contrarec.audit.distribution import (
    coverage,
    gini,
    list_counts,
    list_profile,
    popularity_percentiles,
)


def random_lists(rng: np.random.Generator, n: int, k: int, n_items: int) -> np.ndarray:
    lists = np.stack([rng.permutation(n_items)[:k] for _ in range(n)]).astype(np.int32)
    for row in range(0, n, 3):  # some are short
        lists[row, k - rng.integers(1, k) :] = -1
    return lists


@pytest.mark.parametrize("seed", range(5))
def test_gini_is_half_the_mean_difference_over_the_mean(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 9, size=rng.integers(2, 30))
    counts[0] = 3
    differences = [abs(float(a) - float(b)) for a in counts for b in counts]
    expected = np.mean(differences) / 2 / counts.mean()
    assert gini(counts) == pytest.approx(expected)


def test_gini_by_hand() -> None:
    assert gini([2, 2, 2]) == 0
    assert gini([0, 6]) == pytest.approx(0.5)  # one of two has all: (n − 1)/n
    assert gini([0, 0, 0, 0, 7]) == pytest.approx(0.8)
    # differences of 1, 2, 5: 2·(1 + 4 + 3)/9 = 16/9; half of it over the mean 8/3: 1/3
    assert gini([5, 1, 2]) == pytest.approx(1 / 3)
    assert gini([0, 0]) == 0


@pytest.mark.parametrize("seed", range(3))
def test_percentiles_against_a_double_loop(seed: int) -> None:
    counts = np.random.default_rng(seed).integers(0, 6, size=23)
    expected = [
        100
        * sum((a < b) + 0.5 * (a == b and i != j) for j, a in enumerate(counts))
        / (len(counts) - 1)
        for i, b in enumerate(counts)
    ]
    assert popularity_percentiles(counts) == pytest.approx(expected)
    assert popularity_percentiles(counts).mean() == pytest.approx(50)
    assert popularity_percentiles(np.array([7])).tolist() == [50]


@pytest.mark.parametrize("seed", range(3))
def test_profiles_against_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 50, size=12)
    counts[-1] = 49  # what an empty place would look up is a popular item
    lists = random_lists(rng, 20, 5, 12)
    lists[4] = -1  # nothing could be ranked
    total, before, group = counts.sum(), 0, {}
    for item in sorted(range(12), key=lambda i: (-counts[i], i)):
        in_head, in_middle = 3 * before < total, 3 * before < 2 * total
        group[item] = "head" if in_head else "middle" if in_middle else "tail"
        if counts[item] == 0:
            group[item] = "tail"
        before += counts[item]
    percentiles = popularity_percentiles(counts)
    profile = list_profile(lists, counts)
    for row, items in enumerate(lists):
        items = [item for item in items if item >= 0]
        if not items:
            assert all(np.isnan(values[row]) for values in profile.values())
            continue
        for name in ("head", "middle", "tail"):
            share = sum(group[item] == name for item in items) / len(items)
            assert profile[f"{name}_share"][row] == pytest.approx(share)
        mean = sum(percentiles[item] for item in items) / len(items)
        assert profile["mean_percentile"][row] == pytest.approx(mean)


def test_counts_and_coverage_are_about_candidates() -> None:
    lists = np.array([[0, 2, -1], [2, 4, 0]])
    counts = list_counts(lists, np.array([0, 1, 2, 4]))
    assert counts.tolist() == [2, 0, 2, 1]
    assert coverage(counts) == 0.75
    # the last candidate is in no list, and an item beyond it is no candidate
    assert list_counts(np.array([[0, 5]]), np.array([0, 3])).tolist() == [1, 0]
