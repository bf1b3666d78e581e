"""What lists of recommendations are made of: head and tail, how many items, how unevenly."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contrarec.evaluation.protocol import GROUPS, popularity_groups

Floats = NDArray[np.float64]

SHARES = tuple(f"{group}_share" for group in GROUPS)
PERCENTILE = "mean_percentile"
COVERAGE, GINI = "coverage", "gini"

DEFINITIONS = {
    "head_share": "share of a user's list that are head items (middle_share and tail_share "
    "likewise), mean over users; the groups are those of the metrics",
    PERCENTILE: "popularity percentile of the recommended items, mean over a user's list and then "
    "over users; an item's percentile is 100 times the share of the other items with fewer "
    "training interactions, those with equally many counting half: 100 is the most popular, and "
    "items drawn at random have 50 on average",
    COVERAGE: "share of the items that may be ranked which are in at least one list",
    GINI: "Gini coefficient of how often each item that may be ranked is in a list: 0 if all are "
    "equally often, near 1 if one item is in all of them",
}


def popularity_percentiles(item_counts: NDArray[np.integer]) -> Floats:
    """Return each item's popularity percentile among all items, `[n_items]`.

    `100 · (#{j: n_j < n_i} + ½ #{j ≠ i: n_j = n_i}) / (n_items − 1)`; the mean over items is 50.

    Args:
        item_counts: `[n_items]`, training interactions.

    >>> popularity_percentiles(np.array([5, 1, 1, 0, 9]))
    array([ 75. ,  37.5,  37.5,   0. , 100. ])
    """
    counts = np.asarray(item_counts, np.int64)
    if len(counts) < 2:
        return np.full(len(counts), 50.0)
    ordered = np.sort(counts)
    below = np.searchsorted(ordered, counts, side="left")
    equal = np.searchsorted(ordered, counts, side="right") - below
    return np.asarray(100 * (below + (equal - 1) / 2) / (len(counts) - 1))


def list_profile(lists: NDArray[np.integer], item_counts: NDArray[np.integer]) -> dict[str, Floats]:
    """Return for each user which groups the list goes to, and how popular its items are.

    Args:
        lists: `[n, k]` item indices, -1 for an empty place; a list without any item gives NaN.
        item_counts: `[n_items]`, training interactions.

    Returns:
        `head_share`, `middle_share`, `tail_share` and `mean_percentile`, each `[n]`.

    >>> counts = np.array([4, 2, 1, 1])  # head, middle, tail, tail
    >>> list_profile(np.array([[0, 2, -1]]), counts)["tail_share"]
    array([0.5])
    """
    filled = lists >= 0  # an empty place looks up the last item, and is not counted
    length = filled.sum(1, dtype=np.float64)
    length[length == 0] = np.nan
    group = popularity_groups(item_counts)[lists]  # [n, k]
    profile = {
        name: np.asarray(((group == index) & filled).sum(1) / length)
        for index, name in enumerate(SHARES)
    }
    percentiles = popularity_percentiles(item_counts)[lists]
    profile[PERCENTILE] = np.asarray(np.where(filled, percentiles, 0).sum(1) / length)
    return profile


def list_counts(lists: NDArray[np.integer], candidates: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return in how many lists each candidate is, `[n_candidates]`.

    Args:
        lists: `[n, k]` item indices, an item at most once in a list; -1 for an empty place.
        candidates: indices of the items that may be ranked.
    """
    size = int(candidates.max(initial=-1)) + 1
    counts = np.bincount(lists[lists >= 0].ravel(), minlength=size)
    return np.asarray(counts[candidates])


def coverage(counts: NDArray[np.integer] | Sequence[int]) -> float:
    """Return the share of items that are recommended at all.

    >>> coverage([3, 0, 1, 0])
    0.5
    """
    return float((np.asarray(counts) > 0).mean())


def gini(counts: NDArray[np.integer] | Sequence[int]) -> float:
    """Return the Gini coefficient of non-negative counts.

    `Σ_r (2r − n − 1) x_r / (n Σ x)`, with x in ascending order and the rank r from 1: half the mean
    absolute difference between two items, over the mean. 0 where nothing was counted.

    >>> gini([1, 1, 1, 1]), gini([0, 0, 0, 4]), gini([1, 3])
    (0.0, 0.75, 0.25)
    """
    ordered = np.sort(np.asarray(counts, np.float64))
    n, total = len(ordered), ordered.sum()
    if not total:
        return 0.0
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total))
