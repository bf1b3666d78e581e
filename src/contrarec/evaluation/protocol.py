"""Evaluation of a scorer on one test set: what was measured, on whom, and how sure it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from contrarec.errors import ConfigError, DataError, unknown
from contrarec.evaluation.compare import Seed, bootstrap_interval
from contrarec.evaluation.metrics import DEFINITIONS, METRICS
from contrarec.evaluation.ranking import Scorer, top_k
from contrarec.kernels.dispatch import Backend
from contrarec.kernels.topk import in_rows

if TYPE_CHECKING:
    from contrarec.data.dataset import TestSet

Floats = NDArray[np.float64]
Intervals = dict[str, tuple[float, float]]
Rank = Callable[[Scorer, "TestSet", NDArray[np.int64], int], NDArray[np.int32]]
"""(scorer, test set, `[n]` users, k) → `[n, k]` items, best first; as `top_k` would"""

GROUPS = ("head", "middle", "tail")
GROUP_METRICS = ("recall", "ndcg", "hit")
LEVEL = 0.95

POLICIES: dict[str, str] = {
    "users": "means are over the users with at least one positive",
    "unreachable": "positives that cannot be ranked (unknown to the model, or no candidates) "
    "stay among a user's positives, as misses",
    "ties": "among equal scores the lowest item index ranks first",
    "intervals": "percentile bootstrap of the mean over users",
    "groups": "items by descending training count; head: items with less than a third of all "
    "training interactions before them, middle: less than two thirds, tail: the rest; lists stay "
    "as they are, only positives of the group count, over the users who have one",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupEvaluation:
    """How well the positives of one popularity group are found."""

    n_items: int
    train_share: float
    """Share of the training interactions that the group's items hold."""
    n_truth: int
    """Positives in the group, over all users."""
    n_users: int
    """Users with a positive in the group."""
    per_user: dict[str, Floats]
    """Metric → `[n]`, aligned with `Evaluation.users`; NaN for users without such a positive."""
    intervals: Intervals

    def metrics(self) -> dict[str, float]:
        """Return metric → mean over the users with a positive in the group; empty if none has."""
        if not self.n_users:
            return {}
        return {name: float(np.nanmean(values)) for name, values in self.per_user.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the per-user values, ready for JSON."""
        return {
            "items": self.n_items,
            "train_share": self.train_share,
            "positives": self.n_truth,
            "users": self.n_users,
            "metrics": self.metrics(),
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """Result on one test set, with everything needed to read it."""

    name: str
    """The test set."""
    users: NDArray[np.int64]
    """`[n]` indices of the users counted: those with at least one positive."""
    lists: NDArray[np.int32]
    """`[n, K]`, what was ranked for each of them, best first; -1 where nothing was left."""
    per_user: dict[str, Floats]
    """Metric → `[n]`, in the order of `users`."""
    intervals: Intervals
    """Metric → 95 % interval of its mean; empty without bootstrap."""
    groups: dict[str, GroupEvaluation]
    """Popularity group → result; empty unless asked for."""
    n_without_truth: int
    """Users of the test set's vocabulary without a positive, left out."""
    n_truth: int
    """Positives over all users."""
    n_unreachable: int
    """Positives that could not be ranked and count as misses."""
    n_candidates: int
    """Items that could be ranked, before masking."""
    masked: tuple[str, ...]
    """What was masked."""
    bootstrap: int
    """Bootstrap samples behind the intervals."""
    definitions: dict[str, str]
    """Metric or policy → what it means."""

    def metrics(self) -> dict[str, float]:
        """Return metric → mean over users, such as `{"recall@20": 0.27, …}`."""
        return {name: float(values.mean()) for name, values in self.per_user.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return everything but lists and per-user values, ready for JSON."""
        return {
            "name": self.name,
            "metrics": self.metrics(),
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "groups": {name: group.to_dict() for name, group in self.groups.items()},
            "users": len(self.users),
            "users_without_positives": self.n_without_truth,
            "positives": self.n_truth,
            "positives_unreachable": self.n_unreachable,
            "candidates": self.n_candidates,
            "masked": list(self.masked),
            "bootstrap": self.bootstrap,
            "level": LEVEL,
            "definitions": self.definitions,
        }


def evaluate(
    scorer: Scorer,
    test: "TestSet",
    ks: Sequence[int] = (10, 20),
    *,
    metrics: Sequence[str] = tuple(METRICS),
    n_items: int | None = None,
    bootstrap: int = 0,
    groups: bool = False,
    item_counts: NDArray[np.integer] | None = None,
    rng: Seed = 0,
    block_size: int | None = None,
    backend: Backend = "auto",
    rank: Rank | None = None,
) -> Evaluation:
    """Rank all candidates for every user with a positive, and measure.

    As called by default it is cheap enough for every epoch; intervals (`bootstrap=1000`) and
    popularity groups (`groups=True`) are for a final result. One top-k serves all metrics and
    cutoffs; memory is bounded by a block of scores (see `ranking.top_k`) and a bounded chunk of
    bootstrap samples.

    Args:
        scorer: scores users of the test set's vocabulary against its first `n_items` items.
        test: truth, mask and candidates.
        ks: cutoffs.
        metrics: kinds to compute, of `METRICS`.
        n_items: items the scorer knows, if fewer than the test set's vocabulary; positives beyond
            count as misses.
        bootstrap: samples behind the 95 % intervals; 0 for none.
        groups: measure head, middle and tail items separately; needs `item_counts`.
        item_counts: `[≤ n_items of the vocabulary]`, training interactions per item; items beyond
            have none.
        rng: seed or generator of the bootstrap.
        block_size: users scored at once.
        backend: of the kernels.
        rank: ranks in the place of this process, such as by workers elsewhere.

    Raises:
        ConfigError: an unknown metric, a cutoff below 1, `groups` without `item_counts`, or a
            scorer of another width.
        DataError: no user has a positive, or a score is NaN.
    """
    truth = test.truth
    n_items = truth.n_items if n_items is None else n_items
    _check(test, ks, metrics, n_items, bootstrap, groups, item_counts)
    n_truth = np.diff(truth.indptr)
    users = np.flatnonzero(n_truth)
    if not len(users):
        raise DataError(f"test set `{test.name}` must have a user with a positive, got none.")
    rank = rank or partial(rank_here, n_items=n_items, block_size=block_size, backend=backend)
    items = rank(scorer, test, users, max(ks))
    hits = in_rows(items, users, (truth.indptr, truth.indices), backend=backend)
    reachable = _reachable(test, n_items)
    per_user = _measure(hits, n_truth[users], ks, metrics)
    by_group: dict[str, GroupEvaluation] = {}
    if groups and item_counts is not None:
        by_group = _by_group(test, users, items, hits, ks, item_counts)
    tables = [per_user, *(group.per_user for group in by_group.values())]
    intervals, *group_intervals = _intervals(tables, bootstrap, rng)
    kinds = (*metrics, *(GROUP_METRICS if groups else ()))
    return Evaluation(
        name=test.name,
        users=users,
        lists=items,
        per_user=per_user,
        intervals=intervals,
        groups={
            name: replace(group, intervals=ends)
            for (name, group), ends in zip(by_group.items(), group_intervals, strict=True)
        },
        n_without_truth=truth.n_users - len(users),
        n_truth=len(truth.indices),
        n_unreachable=int((~reachable[truth.indices]).sum()),
        n_candidates=int(reachable.sum()),
        masked=test.masked,
        bootstrap=bootstrap,
        definitions={kind: DEFINITIONS[kind] for kind in kinds} | POLICIES,
    )


def rank_here(
    scorer: Scorer,
    test: "TestSet",
    users: NDArray[np.int64],
    k: int,
    *,
    n_items: int | None = None,
    block_size: int | None = None,
    backend: Backend = "auto",
) -> NDArray[np.int32]:
    """Rank for a test set in this process, by `ranking.top_k`, which says what is asked."""
    n_items = test.truth.n_items if n_items is None else n_items
    items, _ = top_k(
        scorer, users, k, n_items=n_items, mask=test.mask, candidates=test.candidates,
        block_size=block_size, backend=backend,
    )  # fmt: skip
    return items


def ranked_once(tests: Sequence["TestSet"], rank: Rank) -> Rank:
    """Rank a user once for all test sets that mask the same and have the same candidates.

    Args:
        tests: all that will be evaluated with one scorer and the same cutoffs.
        rank: called with a set for the users of all sets like it.

    Returns:
        What ranks for each of `tests`; it keeps the lists.
    """
    kinds: list[list[TestSet]] = []
    for test in tests:
        alike = next((kind for kind in kinds if _same_ranking(kind[0], test)), None)
        if alike is None:
            kinds.append(alike := [])
        alike.append(test)
    kept: dict[int, tuple[NDArray[np.int64], NDArray[np.int32]]] = {}

    def once(
        scorer: Scorer, test: "TestSet", users: NDArray[np.int64], k: int
    ) -> NDArray[np.int32]:
        place = next(n for n, kind in enumerate(kinds) if any(test is one for one in kind))
        if place not in kept:
            counts = np.sum([np.diff(one.truth.indptr) for one in kinds[place]], axis=0)
            everyone = np.flatnonzero(counts)
            kept[place] = everyone, rank(scorer, test, everyone, k)
        everyone, lists = kept[place]
        return lists[np.searchsorted(everyone, users)]

    return once


def _same_ranking(one: "TestSet", other: "TestSet") -> bool:
    return one.truth.n_users == other.truth.n_users and all(
        a is b or (a is not None and b is not None and np.array_equal(a, b))
        for a, b in zip(_left_out(one), _left_out(other), strict=True)
    )


def _left_out(test: "TestSet") -> tuple[NDArray[Any] | None, ...]:
    mask = test.mask
    return (*((None, None) if mask is None else (mask.indptr, mask.indices)), test.candidates)


def popularity_groups(item_counts: NDArray[np.integer]) -> NDArray[np.int8]:
    """Divide items into head (0), middle (1) and tail (2) by their training interactions.

    Items are ordered by descending count, equal counts by index. An item belongs to the head if
    the items before it hold less than a third of all interactions, to the middle if less than two
    thirds, else to the tail: the three hold about equal shares. Items without any interaction are
    tail.

    Args:
        item_counts: `[n_items]`.

    Returns:
        `[n_items]`, positions in `GROUPS`.

    >>> popularity_groups(np.array([1, 4, 1, 2, 0]))  # before them: 6, 0, 7, 4 and 8 of 8
    array([2, 0, 2, 1, 2], dtype=int8)
    """
    counts = np.asarray(item_counts, np.int64)
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    groups = np.full(len(counts), len(GROUPS) - 1, np.int8)
    groups[order] = np.minimum(3 * before // max(int(counts.sum()), 1), 2)
    groups[counts == 0] = len(GROUPS) - 1
    return groups


def _check(
    test: "TestSet",
    ks: Sequence[int],
    metrics: Sequence[str],
    n_items: int,
    bootstrap: int,
    groups: bool,
    item_counts: NDArray[np.integer] | None,
) -> None:
    if not ks or min(ks) < 1:
        raise ConfigError(f"`ks` must be cutoffs of at least 1, got {tuple(ks)}.")
    if not metrics:
        raise ConfigError("`metrics` must name at least one metric, got none.")
    for kind in metrics:
        if kind not in METRICS:
            raise ConfigError(unknown("metric", kind, METRICS))
    if not 1 <= n_items <= test.truth.n_items:
        raise ConfigError(
            f"`n_items` must be between 1 and the {test.truth.n_items} items of test set "
            f"`{test.name}`, got {n_items}."
        )
    if bootstrap < 0:
        raise ConfigError(f"`bootstrap` must be at least 0, got {bootstrap}.")
    if groups and (item_counts is None or len(item_counts) > test.truth.n_items):
        got = "none" if item_counts is None else f"{len(item_counts)} counts"
        raise ConfigError(
            f"`groups` needs `item_counts` for at most {test.truth.n_items} items, got {got}."
        )


def _measure(
    hits: NDArray[np.bool_], n_truth: NDArray[np.int64], ks: Sequence[int], kinds: Sequence[str]
) -> dict[str, Floats]:
    found = hits.astype(np.float64)
    return {f"{kind}@{k}": METRICS[kind](found, n_truth, k) for k in ks for kind in kinds}


def _reachable(test: "TestSet", n_items: int) -> NDArray[np.bool_]:
    """Return `[n_items of the vocabulary]`: which items can be ranked before masking."""
    reachable = np.zeros(test.truth.n_items, np.bool_)
    if test.candidates is None:
        reachable[:n_items] = True
    else:
        reachable[test.candidates[test.candidates < n_items]] = True
    return reachable


def _by_group(
    test: "TestSet",
    users: NDArray[np.int64],
    items: NDArray[np.int32],
    hits: NDArray[np.bool_],
    ks: Sequence[int],
    item_counts: NDArray[np.integer],
) -> dict[str, GroupEvaluation]:
    truth = test.truth
    counts = np.zeros(truth.n_items, np.int64)
    counts[: len(item_counts)] = item_counts
    group_of = popularity_groups(counts)
    rows = np.repeat(np.arange(truth.n_users), np.diff(truth.indptr))
    out = {}
    for index, name in enumerate(GROUPS):
        of_group = group_of[truth.indices] == index  # [positives]
        n_truth = np.bincount(rows[of_group], minlength=truth.n_users)[users]
        counted = n_truth > 0
        # An empty place (-1) looks up the last item, but is no hit to begin with.
        found = (hits & (group_of[items] == index))[counted]
        per_user = {}
        for metric, values in _measure(found, n_truth[counted], ks, GROUP_METRICS).items():
            per_user[metric] = np.full(len(users), np.nan)
            per_user[metric][counted] = values
        out[name] = GroupEvaluation(
            n_items=int((group_of == index).sum()),
            train_share=float(counts[group_of == index].sum() / max(int(counts.sum()), 1)),
            n_truth=int(of_group.sum()),
            n_users=int(counted.sum()),
            per_user=per_user,
            intervals={},
        )
    return out


def _intervals(tables: Sequence[dict[str, Floats]], n_resamples: int, rng: Seed) -> list[Intervals]:
    """Bootstrap all columns of all tables with the same draws of users."""
    out: list[Intervals] = [{} for _ in tables]
    if not n_resamples:
        return out
    columns = [
        (intervals, name, values)
        for intervals, table in zip(out, tables, strict=True)
        for name, values in table.items()
        if np.isfinite(values).any()
    ]
    low, high = bootstrap_interval(
        np.column_stack([values for _, _, values in columns]),
        n_resamples=n_resamples,
        level=LEVEL,
        rng=rng,
    )
    for (intervals, name, _), *ends in zip(columns, low, high, strict=True):
        intervals[name] = (float(ends[0]), float(ends[1]))
    return out
