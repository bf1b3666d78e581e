"""Uncertainty of means over users: intervals, paired tests, correction for many tests.

Users are what is resampled: everything here takes per-user vectors, and says how sure a mean over
users is. It says nothing about the spread over training seeds; average the per-user vectors over
seeds first where there are several.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from contrarec.errors import ConfigError, DataError

Floats = NDArray[np.float64]
Seed = int | np.random.Generator | None

_CHUNK = 1 << 18  # resampled users held at once: under 10 MiB and twice as fast as millions


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
    n = len(table)
    filled, weights = np.where(counted, table, 0.0), counted.astype(np.float64)
    everyone = bool(counted.all())
    rng = np.random.default_rng(rng)
    means = np.full((n_resamples, table.shape[1]), np.nan)
    chunk = max(1, _CHUNK // n)
    for first in range(0, n_resamples, chunk):
        size = min(chunk, n_resamples - first)
        draws = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        times = np.bincount(draws.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
        total = np.full((size, 1), float(n)) if everyone else _product(times, weights)
        np.divide(_product(times, filled), total, out=means[first : first + size], where=total > 0)
    ends = [(1 - level) / 2, (1 + level) / 2]
    low, high = (np.quantile if everyone else np.nanquantile)(means, ends, axis=0)
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
    first, second = first[counted], second[counted]
    difference = first - second
    rng = np.random.default_rng(rng)
    low, high = bootstrap_interval(difference, n_resamples=n_resamples, level=level, rng=rng)
    return PairedTest(
        n_users=len(first),
        mean=float(first.mean()),
        baseline_mean=float(second.mean()),
        difference=float(difference.mean()),
        low=float(low),
        high=float(high),
        p_value=_sign_flip_p_value(difference, n_flips, rng),
    )


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


def _sign_flip_p_value(difference: Floats, n_flips: int, rng: np.random.Generator) -> float:
    difference = difference[difference != 0]  # a flipped zero changes nothing
    n = len(difference)
    if not n:
        return 1.0
    # Sums that are equal in exact arithmetic count as equally large.
    observed = abs(difference.sum()) - 1e-12 * np.abs(difference).sum()
    if n < 63 and 2**n <= n_flips:
        patterns = (np.arange(2**n)[:, None] >> np.arange(n)) & 1  # [2^n, n]
        return float(np.mean(np.abs(_flipped_sums(difference, patterns)) >= observed))
    as_large = 0
    chunk = max(1, _CHUNK // n)
    for first in range(0, n_flips, chunk):
        size = min(chunk, n_flips - first)
        # Whole words per row, so that the chunk size decides nothing.
        random_bits = np.frombuffer(rng.bytes(size * 4 * -(-n // 32)), np.uint8).reshape(size, -1)
        flips = np.unpackbits(random_bits, axis=1, count=n)  # [size, n]
        as_large += int((np.abs(_flipped_sums(difference, flips)) >= observed).sum())
    return (1 + as_large) / (1 + n_flips)


def _flipped_sums(difference: Floats, flips: NDArray[np.integer]) -> Floats:
    return np.asarray(
        difference.sum() - 2 * _product(flips.astype(np.float64), difference[:, None])[:, 0]
    )


def _product(a: Floats, b: Floats) -> Floats:
    # NumPy's BLAS has threads of its own, which would get in the way of torch's.
    product: Floats = (torch.from_numpy(a) @ torch.from_numpy(b)).numpy()
    return product
