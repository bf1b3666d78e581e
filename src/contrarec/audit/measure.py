"""Measuring methods on sets: one ranking of a user serves quality, groups, lists and weighing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from contrarec.audit import distribution, unbiased
from contrarec.audit.shift import measured_sets
from contrarec.audit.subjects import Subject
from contrarec.data.dataset import Dataset
from contrarec.evaluation.protocol import Evaluation
from contrarec.recommender import Recommender

Floats = NDArray[np.float64]
GROUP_METRIC = "recall"


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredSet:
    """What a method does on a set, averaged over its seeds."""

    users: NDArray[np.int64]
    """`[n]` user indices."""
    per_user: dict[str, Floats]
    """Figure → `[n]`: metrics, `recall@k head` and so on, shares of the list."""
    by_seed: dict[str, tuple[float, ...]]
    """Figure → mean over users, or `coverage` or `gini`, for each seed."""
    sums: tuple[Floats, Floats] | None = field(default=None)
    """Positives found, plain and weighed, `[n, 2]` each (see `unbiased.user_sums`)."""


def measure_subject(
    subject: Subject,
    data: Dataset,
    *,
    reference: str | None,
    k: int,
    device: str,
    weights: Mapping[str, unbiased.Weights],
) -> dict[str, MeasuredSet]:
    """Rank for the users of every set with every seed's model, and average over the seeds.

    Args:
        subject: whose runs are finished.
        data: with the test sets as they are measured; the ids are those of the runs.
        reference: the in-distribution set.
        k: cutoff of every figure.
        device: where scores are computed.
        weights: set → weights of its positives, for the sets that are weighed.
    """
    found: dict[str, list[tuple[Evaluation, _Lists]]] = {}
    for folder in subject.folders:
        recommender = Recommender.load(folder, device=device)
        for name, evaluation in recommender.evaluate(data, ks=(k,), bootstrap=0).items():
            if name in measured_sets(data, reference):
                lists = _look_at_lists(evaluation, data, name, weights.get(name))
                found.setdefault(name, []).append((evaluation, lists))
    return {name: _averaged(seeds, k) for name, seeds in found.items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Lists:
    """What the lists of one model are made of."""

    profile: dict[str, Floats]
    coverage: float
    gini: float
    sums: tuple[Floats, Floats] | None


def _look_at_lists(
    evaluation: Evaluation, data: Dataset, name: str, weights: unbiased.Weights | None
) -> _Lists:
    lists, users = evaluation.lists, evaluation.users
    candidates = np.arange(data.n_items) if data.candidates is None else data.candidates
    counts = distribution.list_counts(lists, candidates)
    sums = None
    if weights is not None:
        truth = data.parts[name]
        plain = unbiased.user_sums(lists, users, truth, np.ones(truth.nnz))
        sums = plain, unbiased.user_sums(lists, users, truth, weights.values)
    return _Lists(
        profile=distribution.list_profile(lists, data.train.item_counts),
        coverage=distribution.coverage(counts),
        gini=distribution.gini(counts),
        sums=sums,
    )


def _averaged(seeds: Sequence[tuple[Evaluation, _Lists]], k: int) -> MeasuredSet:
    columns: list[dict[str, Floats]] = []
    for evaluation, lists in seeds:
        groups = {
            f"{GROUP_METRIC}@{k} {name}": group.per_user[f"{GROUP_METRIC}@{k}"]
            for name, group in evaluation.groups.items()
        }
        columns.append(evaluation.per_user | groups | lists.profile)
    by_seed = {
        name: tuple(float(np.nanmean(seed[name])) for seed in columns)
        for name, values in columns[0].items()
        if np.isfinite(values).any()
    }
    by_seed |= {
        distribution.COVERAGE: tuple(lists.coverage for _, lists in seeds),
        distribution.GINI: tuple(lists.gini for _, lists in seeds),
    }
    sums = [lists.sums for _, lists in seeds if lists.sums is not None]
    return MeasuredSet(
        users=seeds[0][0].users,
        per_user={name: np.mean([seed[name] for seed in columns], axis=0) for name in columns[0]},
        by_seed=by_seed,
        sums=(np.mean([s[0] for s in sums], axis=0), np.mean([s[1] for s in sums], axis=0))
        if sums
        else None,
    )
