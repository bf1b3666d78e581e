"""Intervals, paired tests and Holm's correction, against direct definitions."""

import itertools

import numpy as np
import pytest

from contrarec.errors import ConfigError, DataError
from contrarec.evaluation import compare
from contrarec.evaluation.compare import bootstrap_interval, holm, paired_test, paired_tests


def test_interval_of_known_values():
    # One user in four: the resampled mean is binomial(100, .25) / 100, whose 2.5 % and 97.5 %
    # points are 17 and 34.
    values = np.repeat([1.0, 0.0], [25, 75])
    low, high = bootstrap_interval(values, n_resamples=20_000)
    assert low == pytest.approx(0.17, abs=0.011)
    assert high == pytest.approx(0.34, abs=0.011)
    narrow = bootstrap_interval(values, n_resamples=20_000, level=0.5)
    assert low < narrow[0] < 0.25 < narrow[1] < high


def test_interval_of_a_constant_is_a_point():
    low, high = bootstrap_interval(np.full(50, 0.3), n_resamples=100)
    assert low == pytest.approx(0.3)
    assert high == pytest.approx(0.3)


def test_interval_covers_as_often_as_it_says():
    # 400 samples, 95 %: fewer than 360 covering has a chance below 1e-4 even at 93.5 % true cover.
    rng = np.random.default_rng(0)
    samples = rng.exponential(size=(60, 400))
    low, high = np.array(
        [bootstrap_interval(s, n_resamples=300, rng=i) for i, s in enumerate(samples.T)]
    ).T
    covering = ((low <= 1) & (high >= 1)).sum()
    assert 350 <= covering <= 396


def test_columns_share_their_draws_and_equal_single_ones():
    rng = np.random.default_rng(1)
    table = rng.random((40, 3))
    table[:, 2] = 1 - table[:, 0]
    low, high = bootstrap_interval(table, n_resamples=500, rng=7)
    np.testing.assert_allclose(low[2], 1 - high[0])
    for column in range(3):
        alone = bootstrap_interval(table[:, column], n_resamples=500, rng=7)
        np.testing.assert_allclose(alone, (low[column], high[column]))


def test_a_user_that_does_not_count_changes_no_mean():
    # Half the users count, each with the same value: whatever is drawn, the mean is that value.
    values = np.tile([0.7, np.nan], 30)
    low, high = bootstrap_interval(np.column_stack([values, np.arange(60.0)]), n_resamples=200)
    assert low[0] == pytest.approx(0.7)
    assert high[0] == pytest.approx(0.7)
    assert low[1] < 29.5 < high[1]


def test_chunks_change_nothing(monkeypatch):
    values = np.random.default_rng(2).normal(0.1, 1, size=300)
    results = []
    for chunk in (1 << 18, 5 * 300, 1):
        monkeypatch.setattr(compare, "_CHUNK", chunk)
        interval = bootstrap_interval(values, n_resamples=99, rng=3)
        results.append((*interval, paired_test(values, 0 * values, n_flips=999).p_value))
    np.testing.assert_allclose(results[1], results[0])
    np.testing.assert_allclose(results[2], results[0])


def test_the_seed_decides():
    values = np.random.default_rng(2).random(30)
    assert bootstrap_interval(values, rng=1) == bootstrap_interval(values, rng=1)
    assert bootstrap_interval(values, rng=1) != bootstrap_interval(values, rng=2)


def naive_p_value(difference):
    sums = [
        abs(sum(s * d for s, d in zip(signs, difference, strict=True)))
        for signs in itertools.product([1, -1], repeat=len(difference))
    ]
    return np.mean([total >= abs(sum(difference)) - 1e-12 for total in sums])


def test_few_users_are_tested_exactly():
    rng = np.random.default_rng(4)
    for n in (1, 3, 8):
        a, b = rng.random(n), rng.random(n)
        assert paired_test(a, b).p_value == pytest.approx(naive_p_value(a - b))


def test_rounding_does_not_decide_what_is_as_large():
    # .1 + .2 − .3 is 0 but for rounding, and every other pattern is as large.
    difference = np.array([0.1, 0.2, -0.3])
    assert paired_test(difference, np.zeros(3)).p_value == 1
    many = np.tile(difference, 7)  # 2^21 patterns: at random
    assert paired_test(many, np.zeros(21), n_flips=500).p_value == 1


def test_many_users_are_tested_at_random_around_the_exact_value():
    rng = np.random.default_rng(5)
    difference = rng.normal(0.3, 1, size=12)
    exact = naive_p_value(difference)
    assert 0.05 < exact < 0.95
    p = paired_test(difference, np.zeros(12), n_flips=4_000).p_value  # 2^12 > 4,000: random
    assert p != exact
    assert p == pytest.approx(exact, abs=5 * np.sqrt(exact * (1 - exact) / 4_000))


def test_random_p_values_keep_their_level():
    # No difference: p ≤ .1 in a tenth of 300 experiments, 30 ± 5.2; outside 10…50 once in 1e4.
    rng = np.random.default_rng(6)
    small = 0
    for seed in range(300):
        a, b = rng.random((2, 40))
        small += paired_test(a, b, n_flips=199, n_resamples=1, rng=seed).p_value <= 0.1
    assert 10 <= small <= 50


def test_outcome():
    a, b = np.array([0.9, 0.5, 0.4, 0.8]), np.array([0.5, 0.5, 0.6, 0.2])
    result = paired_test(a, b)
    assert result.n_users == 4
    assert result.mean == pytest.approx((0.9 + 0.5 + 0.4 + 0.8) / 4)
    assert result.baseline_mean == pytest.approx((0.5 + 0.5 + 0.6 + 0.2) / 4)
    assert result.difference == pytest.approx((0.4 + 0 - 0.2 + 0.6) / 4)
    assert result.low < result.difference < result.high
    # Differences .4, −.2, .6 (a zero has no sign): |sum| ≥ .8 for (.4, −.2, .6), (.4, .2, .6)
    # and their negatives, of 8.
    assert result.p_value == pytest.approx(4 / 8)
    assert result.to_dict()["n_users"] == 4
    back = paired_test(b, a)
    assert back.difference == pytest.approx(-result.difference)
    assert back.p_value == result.p_value


def test_a_clear_difference_is_found_and_none_is_not():
    rng = np.random.default_rng(8)
    a = rng.random(500)
    clear = paired_test(a + 0.05 + 0.01 * rng.normal(size=500), a)
    assert clear.p_value == pytest.approx(1 / 10_001)
    assert clear.low > 0.04
    assert paired_test(a, a).p_value == 1


def test_rows_are_aligned_by_user():
    rng = np.random.default_rng(9)
    a, b, users = rng.random(30), rng.random(30), rng.permutation(100)[:30]
    order = rng.permutation(30)
    shuffled = paired_test(a, b[order], users=(users, users[order]))
    by_user = np.argsort(users)
    assert shuffled == paired_test(a[by_user], b[by_user])
    assert shuffled.p_value != paired_test(a, b[order]).p_value


def test_users_that_do_not_count_are_left_out():
    a, b = np.array([0.5, np.nan, 0.7]), np.array([0.4, np.nan, 0.9])
    assert paired_test(a, b) == paired_test(a[[0, 2]], b[[0, 2]])


def test_all_pairs_at_once_equal_each_alone():
    rng = np.random.default_rng(5)
    table = rng.integers(3, size=(90, 6)) / 3
    table[70:, 1] = table[70:, 0]  # 1 against 0: fewer differences, and fewer words of random bits
    table[:, 2] = table[:, 0]
    table[:7, 2] += 0.25  # few enough to be tested exactly
    table[:, 3] = table[:, 0]  # no difference at all
    tests = paired_tests(table, n_flips=400, n_resamples=300, rng=3)
    assert len(tests) == 15
    for (i, j), found in tests.items():
        alone = paired_test(table[:, j], table[:, i], n_flips=400, n_resamples=300, rng=3)
        assert found.p_value == alone.p_value, (i, j)
        assert found.to_dict() == pytest.approx(alone.to_dict(), abs=1e-12)
    assert tests[0, 2].p_value == 2 / 2**7
    assert tests[0, 3].p_value == 1


@pytest.mark.parametrize("n", [40, 64])  # 64 are two words of random bits to the last one
def test_what_paired_tests_are_by_hand(n):
    """Against a plain loop over resamples and flips, with the random numbers drawn again."""
    rng = np.random.default_rng(6)
    table = rng.random((n, 3))
    found = paired_tests(table, n_flips=200, n_resamples=100, rng=9)[0, 2]
    again = np.random.default_rng(9)
    difference = table[:, 2] - table[:, 0]
    means = [difference[again.integers(n, size=n)].mean() for _ in range(100)]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    as_large = 0
    for _ in range(200):
        bits = np.unpackbits(np.frombuffer(again.bytes(8), np.uint8), count=n)
        as_large += abs((difference * (1 - 2.0 * bits)).sum()) >= abs(difference.sum())
    assert found.p_value == (1 + as_large) / 201


def test_holm_equals_closed_testing():
    # A hypothesis is rejected if every set of hypotheses that holds it fails Bonferroni.
    rng = np.random.default_rng(10)
    for m in (1, 2, 5):
        p = rng.random(m) ** 3
        p[-1] = p[0]  # a tie
        expected = [
            max(
                min(1.0, size * min(p[list(subset)]))
                for size in range(1, m + 1)
                for subset in itertools.combinations(range(m), size)
                if i in subset
            )
            for i in range(m)
        ]
        np.testing.assert_allclose(holm(p), expected)
    assert holm([]).shape == (0,)


def test_refusals():
    with pytest.raises(ConfigError, match="`n_resamples` must be at least 1, got 0"):
        bootstrap_interval([1.0], n_resamples=0)
    with pytest.raises(ConfigError, match=r"`level` must be between 0 and 1, got 95"):
        bootstrap_interval([1.0], level=95)
    with pytest.raises(ConfigError, match="`n_flips` must be at least 1, got 0"):
        paired_test([1.0], [0.0], n_flips=0)
    for values in ([], [[1.0, np.nan]], [np.nan]):
        with pytest.raises(DataError, match="at least one user per column"):
            bootstrap_interval(values)
    with pytest.raises(DataError, match=r"alike, got \(2,\) and \(3,\)"):
        paired_test([1, 2], [1, 2, 3])
    with pytest.raises(DataError, match="the same users and at least one, got 1 and 2"):
        paired_test([1, np.nan], [1, 2])
    with pytest.raises(DataError, match="got 1 only in the first and 2 only in the second"):
        paired_test([1, 2, 3], [1, 2, 3], users=([1, 2, 2], [2, 3, 4]))
    with pytest.raises(DataError, match="each once"):
        paired_test([1, 2], [1, 2], users=([1, 1], [1, 1]))
    for bad in ([0.1, 1.5], [np.nan]):
        with pytest.raises(DataError, match=r"numbers in \[0, 1\]"):
            holm(bad)
