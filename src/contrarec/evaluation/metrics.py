"""Ranking metrics as pure functions: hits of a ranked list in, one value per user out.

A list is described by `hits [n, K]` (entry `c` is true when the item at rank `c + 1` is a positive)
and by `n_truth [n]`, the number of positives |T| of each user, found or not. Nothing here averages:
means, intervals and comparisons are made from the per-user vectors.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contrarec.errors import ConfigError, DataError, unknown

Floats = NDArray[np.float64]
Metric = Callable[[ArrayLike, ArrayLike, int], Floats]


def recall(hits: ArrayLike, n_truth: ArrayLike, k: int) -> Floats:
    """Share of the user's positives among the first k: hits / |T|.

    Args:
        hits: `[n, K]` bool or 0/1, `K >= k`.
        n_truth: `[n]`, positives of each user, at least 1.
        k: cutoff.

    Returns:
        `[n]` float64. All metrics of this module share these arguments, result and errors.

    Raises:
        ConfigError: `k` is not between 1 and K.
        DataError: shapes do not fit, or a user has no positive.

    >>> recall([[True, False, True]], [4], 3)
    array([0.5])
    """
    found, positives = _checked(hits, n_truth, k)
    return np.asarray(found.sum(1) / positives)


def precision(hits: ArrayLike, n_truth: ArrayLike, k: int) -> Floats:
    """Share of the first k that are positives: hits / k, also for lists shorter than k.

    >>> precision([[True, False, True, False]], [2], 4)
    array([0.5])
    """
    found, _ = _checked(hits, n_truth, k)
    return np.asarray(found.sum(1) / k)


def ndcg(hits: ArrayLike, n_truth: ArrayLike, k: int) -> Floats:
    """Sum of 1 / log2(rank + 1) over the hits, divided by its largest value for min(|T|, k) hits.

    >>> ndcg([[False, True]], [1], 2).round(4)  # (1 / log2 3) / (1 / log2 2)
    array([0.6309])
    """
    found, positives = _checked(hits, n_truth, k)
    discount = 1.0 / np.log2(np.arange(2, k + 2))  # [k]
    ideal = np.cumsum(discount)[np.minimum(positives, k) - 1]  # [n]
    return np.asarray(found @ discount / ideal)


def hit(hits: ArrayLike, n_truth: ArrayLike, k: int) -> Floats:
    """1 if any positive is among the first k, else 0 (HR@k).

    >>> hit([[False, True], [False, False]], [3, 1], 2)
    array([1., 0.])
    """
    found, _ = _checked(hits, n_truth, k)
    return np.asarray(found.max(1))


def mrr(hits: ArrayLike, n_truth: ArrayLike, k: int) -> Floats:
    """1 / rank of the first positive; 0 when there is none among the first k.

    >>> mrr([[False, True, True]], [2], 3)
    array([0.5])
    """
    found, _ = _checked(hits, n_truth, k)
    return np.asarray(found.max(1) / (found.argmax(1) + 1))


def average_precision(hits: ArrayLike, n_truth: ArrayLike, k: int) -> Floats:
    """Sum of precision@rank over the ranks of the hits, divided by min(|T|, k); its mean is MAP.

    >>> average_precision([[True, False, True]], [2], 3).round(4)  # (1/1 + 2/3) / 2
    array([0.8333])
    """
    found, positives = _checked(hits, n_truth, k)
    precision_at = np.cumsum(found, axis=1) / np.arange(1, k + 1)  # [n, k]
    return np.asarray((precision_at * found).sum(1) / np.minimum(positives, k))


METRICS: dict[str, Metric] = {
    "recall": recall,
    "ndcg": ndcg,
    "hit": hit,
    "precision": precision,
    "mrr": mrr,
    "map": average_precision,
}

DEFINITIONS: dict[str, str] = {
    "recall": "positives among the first k / all positives of the user",
    "ndcg": "sum of 1/log2(rank+1) over the hits / its largest value for min(positives, k) hits",
    "hit": "1 if any positive is among the first k, else 0",
    "precision": "positives among the first k / k",
    "mrr": "1 / rank of the first positive among the first k, 0 if none",
    "map": "sum of precision at the ranks of the hits / min(positives, k)",
}


def parse_metric(name: str) -> tuple[str, int]:
    """Split a metric's name into its kind and cutoff.

    Raises:
        ConfigError: not of the form `kind@k`, an unknown kind, or `k` below 1.

    >>> parse_metric("ndcg@20")
    ('ndcg', 20)
    """
    kind, at, cutoff = name.partition("@")
    if kind not in METRICS:
        raise ConfigError(unknown("metric", kind, METRICS))
    if not at or not (cutoff.isascii() and cutoff.isdigit()) or int(cutoff) < 1:
        raise ConfigError(f"a metric must be named like '{kind}@20', got {name!r}.")
    return kind, int(cutoff)


def _checked(hits: ArrayLike, n_truth: ArrayLike, k: int) -> tuple[Floats, NDArray[np.int64]]:
    found = np.asarray(hits, dtype=np.float64)
    truth = np.asarray(n_truth, dtype=np.int64)
    if found.ndim != 2 or truth.shape != found.shape[:1]:
        raise DataError(
            "`hits` must be [n, K] and `n_truth` [n] with the same n, got "
            f"{found.shape} and {truth.shape}."
        )
    if not 1 <= k <= found.shape[1]:
        raise ConfigError(f"`k` must be between 1 and the {found.shape[1]} ranks given, got {k}.")
    if truth.size and truth.min() < 1:
        raise DataError(f"`n_truth` must be at least 1 for every user, got {truth.min()}.")
    return found[:, :k], truth
