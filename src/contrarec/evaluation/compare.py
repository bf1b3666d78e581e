"""Uncertainty of means over users: intervals, paired tests, correction for many tests.

Users are what is resampled: everything here takes per-user vectors, and says how sure a mean over
users is. It says nothing about the spread over training seeds; average the per-user vectors over
seeds first where there are several.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from contrarec.errors import ConfigError, DataError

Floats = NDArray[np.float64]
Seed = int | np.random.Generator | None

_CHUNK = 1 << 18  # resampled users held at once: under 10 MiB and twice as fast as millions
# A product with a wide table reads all of it for every chunk: ten times as fast with 64 rows as
# with 6. Up to 64 MiB.
_WIDE, _WIDE_ROWS, _WIDE_CHUNK = 8, 64, 1 << 23


def bootstrap_interval(
    values: ArrayLike, *, n_resamples: int = 1000, level: float = 0.95, rng: Seed = 0
) -> tuple[Floats, Floats]:
    """Percentile bootstrap interval of the mean over users.

    Users are drawn with replacement, all columns with the same draws. NaN marks a user that a
    column does not count; a resample's mean is then over those of its users that count.

    Args:
        values: `[n]` or `[n, m]`, one row per user; no column without a number.
        n_resamples: bootstrap samples; time grows with them, memory does not.
        level: share of the resampled means within the interval.
        rng: seed or generator.

    Returns:
        Lower and upper ends, each `[]` or `[m]`.

    Raises:
        ConfigError: `n_resamples` or `level` is out of range.
        DataError: there is no user, or a column counts none.

    >>> low, high = bootstrap_interval([0.0, 1.0] * 50)
    >>> float(low), float(high)
    (0.4, 0.6)
    """
    _check_resampling(n_resamples, level)
    array = np.asarray(values, np.float64)
    table = array[:, None] if array.ndim == 1 else array  # [n, m]
    counted = ~np.isnan(table)
    if not counted.any(0).all():
        raise DataError(f"`values` must count at least one user per column, got {array.shape}.")
    means = resampled_means(table, n_resamples=n_resamples, rng=rng)
    quantile = np.quantile if counted.all() else np.nanquantile
    low, high = quantile(means, _ends(level), axis=0)
    return low.reshape(array.shape[1:]), high.reshape(array.shape[1:])


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Outcome of `paired_test`; every figure is a mean over the users that both vectors count."""

    n_users: int
    mean: float
    baseline_mean: float
    difference: float
    """`mean − baseline_mean`."""
    low: float
    """Lower end of the bootstrap interval of the difference."""
    high: float
    p_value: float
    """Two-sided, from random sign flips."""

    def to_dict(self) -> dict[str, float]:
        """Return the fields as plain numbers."""
        return asdict(self)


def paired_test(
    values: ArrayLike,
    baseline: ArrayLike,
    *,
    users: tuple[ArrayLike, ArrayLike] | None = None,
    n_flips: int = 10_000,
    n_resamples: int = 2_000,
    level: float = 0.95,
    rng: Seed = 0,
) -> PairedTest:
    """Test whether two methods differ in their mean over the same users.

    The p-value asks how often the mean difference is as large when each user's difference gets a
    random sign, as it would if the two methods were exchangeable: `(1 + as large) / (1 + flips)`.
    With so few users that there are no more than `n_flips` sign patterns, all are tried and the
    p-value is exact.

    Args:
        values: `[n]`, one value per user; NaN where a user does not count.
        baseline: `[n]`, NaN for the same users.
        users: the users of both vectors, where their order may differ; else row belongs to row.
        n_flips: random sign patterns behind the p-value.
        n_resamples: bootstrap samples behind the interval.
        level: of the interval.
        rng: seed or generator.

    Raises:
        ConfigError: `n_flips`, `n_resamples` or `level` is out of range.
        DataError: the vectors are not about the same users, or count none.

    >>> paired_test([0.5, 0.6, 0.7], [0.4, 0.5, 0.6]).p_value  # 2 of 8 patterns as large
    0.25
    """
    if n_flips < 1:
        raise ConfigError(f"`n_flips` must be at least 1, got {n_flips}.")
    first, second = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise DataError(
            f"`values` and `baseline` must be [n] alike, got {first.shape} and {second.shape}."
        )
    if users is not None:
        first, second = _aligned(first, second, users)
    counted = ~np.isnan(first)
    if not np.array_equal(counted, ~np.isnan(second)) or not counted.any():
        raise DataError(
            "`values` and `baseline` must count the same users and at least one, got "
            f"{counted.sum()} and {(~np.isnan(second)).sum()}."
        )
    table = np.stack([second, first], axis=1)[counted]
    return paired_tests(table, n_flips=n_flips, n_resamples=n_resamples, level=level, rng=rng)[0, 1]


def paired_tests(
    table: Floats,
    *,
    n_flips: int = 10_000,
    n_resamples: int = 2_000,
    level: float = 0.95,
    rng: Seed = 0,
) -> dict[tuple[int, int], PairedTest]:
    """Test every pair of methods: what `paired_test` says of each, with the draws shared.

    Args:
        table: `[n, m]`, one row per user and one column per method, without NaN.
        n_flips: random sign patterns behind each p-value.
        n_resamples: bootstrap samples behind each interval.
        level: of the intervals.
        rng: seed or generator, in the same state for every pair.

    Returns:
        For each `(i, j)` with `i < j` the test of column j, with column i as the baseline.

    >>> paired_tests(np.array([[0.4, 0.5], [0.5, 0.6], [0.6, 0.7]]))[0, 1].p_value
    0.25
    """
    _check_resampling(n_resamples, level)
    rng = np.random.default_rng(rng)
    resampled = resampled_means(table, n_resamples=n_resamples, rng=rng)  # [n_resamples, m]
    means, pairs = table.mean(0), list(combinations(range(table.shape[1]), 2))
    p_values = _sign_flip_p_values(table, pairs, n_flips, rng)
    tests = {}
    for (i, j), p_value in zip(pairs, p_values, strict=True):
        low, high = np.quantile(resampled[:, j] - resampled[:, i], _ends(level))
        tests[i, j] = PairedTest(
            n_users=len(table),
            mean=float(means[j]),
            baseline_mean=float(means[i]),
            difference=float((table[:, j] - table[:, i]).mean()),
            low=float(low),
            high=float(high),
            p_value=float(p_value),
        )
    return tests


def resampled_means(table: Floats, *, n_resamples: int, rng: Seed = 0) -> Floats:
    """Return the mean of each column over users drawn with replacement, `[n_resamples, m]`.

    All columns have the same draws, so that a figure made of several means has its own bootstrap.

    Args:
        table: `[n, m]`, one row per user; NaN marks a user that a column does not count.
        n_resamples: bootstrap samples.
        rng: seed or generator.

    Returns:
        The means; NaN where a resample has no user that a column counts.
    """
    counted, rng = ~np.isnan(table), np.random.default_rng(rng)
    n, everyone = len(table), bool(counted.all())
    filled, weights = np.where(counted, table, 0.0), counted.astype(np.float64)
    means = np.full((n_resamples, table.shape[1]), np.nan)
    chunk = _chunk(n, table.shape[1])
    for first in range(0, n_resamples, chunk):
        size = min(chunk, n_resamples - first)
        draws = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        times = np.bincount(draws.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
        total = np.full((size, 1), float(n)) if everyone else _product(times, weights)
        np.divide(_product(times, filled), total, out=means[first : first + size], where=total > 0)
    return means


def flipped_sums(differences: Floats, *, n_flips: int, rng: Seed = 0) -> Floats:
    """Return the sum of each column when every user's row gets a random sign, `[n_flips, m]`.

    All columns have the same signs, so that a figure made of several sums has its own test.

    Args:
        differences: `[n, m]`, one row per user, 0 where a column does not count the user.
        n_flips: random sign patterns.
        rng: seed or generator.
    """
    rng, sums = np.random.default_rng(rng), np.empty((n_flips, differences.shape[1]))
    n_words = -(-len(differences) // 32)
    padded = np.zeros((32 * n_words, differences.shape[1]))
    padded[: len(differences)] = differences
    for part, flips in _random_flips(n_flips, n_words, rng, padded.shape[1]):
        sums[part] = _flipped_sums(padded, flips)
    return sums


def holm(p_values: Sequence[float] | Floats) -> Floats:
    """Adjust p-values for being several, by Holm's step-down method.

    Rejecting what is at most α after the adjustment keeps the chance of any false rejection
    below α, whatever the dependence between the tests.

    Args:
        p_values: `[m]`, each in [0, 1].

    Returns:
        `[m]` adjusted p-values in the same order, never below the given ones.

    Raises:
        DataError: a value is outside [0, 1].

    >>> holm([0.01, 0.04, 0.03])  # 3 × .01, then max(2 × .03, .03), then max(1 × .04, .06)
    array([0.03, 0.06, 0.06])
    """
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise DataError(f"`p_values` must be [m] numbers in [0, 1], got {p_values}.")
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def _check_resampling(n_resamples: int, level: float) -> None:
    if n_resamples < 1:
        raise ConfigError(f"`n_resamples` must be at least 1, got {n_resamples}.")
    if not 0 < level < 1:
        raise ConfigError(f"`level` must be between 0 and 1, got {level}.")


def _aligned(
    first: Floats, second: Floats, users: tuple[ArrayLike, ArrayLike]
) -> tuple[Floats, Floats]:
    ours, theirs = np.asarray(users[0]), np.asarray(users[1])
    if ours.shape != first.shape or theirs.shape != second.shape:
        raise DataError(
            f"`users` must name every row, got {ours.shape} and {theirs.shape} for {first.shape}."
        )
    by_ours, by_theirs = np.argsort(ours, kind="stable"), np.argsort(theirs, kind="stable")
    if not np.array_equal(ours[by_ours], theirs[by_theirs]) or len(np.unique(ours)) < len(ours):
        only = len(np.setdiff1d(ours, theirs)), len(np.setdiff1d(theirs, ours))
        raise DataError(
            "`users` must be the same in both vectors, each once, got "
            f"{only[0]} only in the first and {only[1]} only in the second."
        )
    return first[by_ours], second[by_theirs]


def _chunk(n: int, n_columns: int) -> int:
    """Return how many patterns of n users are multiplied with a table at once."""
    rows = _CHUNK // n
    if n_columns >= _WIDE:
        rows = max(rows, min(_WIDE_ROWS, _WIDE_CHUNK // n))
    return max(1, rows)


def _ends(level: float) -> list[float]:
    return [(1 - level) / 2, (1 + level) / 2]


def _sign_flip_p_values(
    table: Floats, pairs: Sequence[tuple[int, int]], n_flips: int, rng: np.random.Generator
) -> Floats:
    """Return the p-value of each pair's differences, `[pairs]`.

    A flipped zero changes nothing, so zeros are left out first. Pairs with as many words of random
    bits per row are tested together, all from the same state of `rng`.
    """
    p_values, state = np.ones(len(pairs)), rng.bit_generator.state
    groups: dict[int, list[int]] = {}
    for number, (i, j) in enumerate(pairs):
        n = int(np.count_nonzero(table[:, j] - table[:, i]))
        if n < 63 and 2**n <= n_flips:
            p_values[number] = _exact_p_value(table[:, j] - table[:, i])
        else:
            groups.setdefault(-(-n // 32), []).append(number)
    for n_words, numbers in groups.items():
        differences = np.zeros((32 * n_words, len(numbers)))
        for column, number in enumerate(numbers):
            i, j = pairs[number]
            difference = table[:, j] - table[:, i]
            difference = difference[difference != 0]
            differences[: len(difference), column] = difference
        observed, as_large = _observed(differences), np.zeros(len(numbers), np.int64)
        rng.bit_generator.state = state
        for _, flips in _random_flips(n_flips, n_words, rng, len(numbers)):
            as_large += (np.abs(_flipped_sums(differences, flips)) >= observed).sum(0)
        p_values[numbers] = (1 + as_large) / (1 + n_flips)
    return p_values


def _random_flips(
    n_flips: int, n_words: int, rng: np.random.Generator, n_columns: int
) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
    """Yield random bits `[some, 32 · n_words]`, a bounded chunk of the patterns at a time."""
    chunk = _chunk(32 * n_words, n_columns)
    for first in range(0, n_flips, chunk):
        size = min(chunk, n_flips - first)
        # whole words per row, so that the chunk size decides nothing
        random_bits = np.frombuffer(rng.bytes(size * 4 * n_words), np.uint8)
        yield slice(first, first + size), np.unpackbits(random_bits.reshape(size, -1), axis=1)


def _exact_p_value(difference: Floats) -> float:
    """Return the p-value over all sign patterns of the differences that are not zero."""
    columns = difference[difference != 0][:, None]
    n = len(columns)
    patterns = (np.arange(2**n)[:, None] >> np.arange(n)) & 1  # [2^n, n]
    return float(np.mean(np.abs(_flipped_sums(columns, patterns)) >= _observed(columns)))


def _observed(differences: Floats) -> Floats:
    """Return the size of each column's sum, less what equal sums may differ by from rounding."""
    observed: Floats = np.abs(differences.sum(0)) - 1e-12 * np.abs(differences).sum(0)
    return observed


def _flipped_sums(differences: Floats, flips: NDArray[np.integer]) -> Floats:
    """Return the sums of `differences [n, m]` under `flips [k, n]`, `[k, m]`."""
    return np.asarray(differences.sum(0) - 2 * _product(flips.astype(np.float64), differences))


def _product(a: Floats, b: Floats) -> Floats:
    # NumPy's BLAS has threads of its own, which would get in the way of torch's.
    product: Floats = (torch.from_numpy(a) @ torch.from_numpy(b)).numpy()
    return product
