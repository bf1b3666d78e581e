"""Test sets of a log whose popularity is shifted, and how far each is from training."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from contrarec.audit.distribution import popularity_percentiles
from contrarec.data.dataset import Dataset
from contrarec.data.interactions import Interactions
from contrarec.data.report import popularity_kl, unseen
from contrarec.data.splits import PopularityShift, Random, Split, Temporal
from contrarec.errors import ConfigError, DataError
from contrarec.evaluation.protocol import popularity_groups

SHIFTS = ("200", "10", "2", "uniform")
"""Those of the AdvInfoNCE paper's Tencent protocol (γ), and equally popular items (γ = 1)."""
UNIFORM, TIME, REFERENCE = "uniform", "time", "id"
SHARE, MOST_SHARE = 0.05, 0.1
"""Share of a log in each set, and of a small log."""
ENOUGH = 1_000
"""Positives that a set should have; a small log gives a larger share of itself."""
N_GROUPS = 10
POPULAR = 0.01
"""Nats by which a set is more popular than training before it is none of the shifted ones."""
IN_DISTRIBUTION, SHIFTED, MORE_POPULAR = "in distribution", "shifted", "more popular"
MIN_USERS = 20
"""Fewer say nothing about a mean over users."""
MOST_HELD_OUT = 0.6

DEFINITIONS = {
    "shift": f"KL(set || train) in nats of the interactions over {N_GROUPS} groups of equally many "
    "items by training popularity, 1 added to each count; negative where the set is more popular "
    "than training",
    "shifted": "the sets that are not in distribution, without those that are more popular than "
    f"training (shift below {-POPULAR:g}): those are easier, not harder; all, if none is left",
    "popularity_kl": "KL(set || train) in nats over single items, 1 added to each count; rises as "
    "a set gets smaller, too",
    "positives": "what the set's own positives are like, under the same definitions as the lists",
}


@dataclass(frozen=True, kw_only=True)
class SetInfo:
    """A set that methods are measured on, and how it differs from training."""

    name: str
    role: str
    """`in distribution`, what the others are set beside; `shifted`; or `more popular`."""
    how: str
    """How it came about."""
    n_users: int
    """Users with a positive."""
    n_measured: int
    """Those of them that are measured."""
    n_positives: int
    shift: float
    popularity_kl: float
    head_share: float
    """Share of the positives that are head items."""
    mean_percentile: float
    """Mean popularity percentile of the positives."""
    unseen_users: int
    """Users with a positive and no training interaction."""
    unseen_items: int
    """Items among the positives without a training interaction."""
    masked: tuple[str, ...]
    """Parts that are left out of the lists."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self) | {"masked": list(self.masked)}


def split_log(
    log: Dataset,
    shifts: Sequence[str] | None = None,
    *,
    share: float | None = None,
    seed: int = 0,
) -> Dataset:
    """Take an in-distribution test set, shifted ones and, where there is none, valid out of a log.

    The order matters. The latest interactions go first, so that nothing of train is later. Then go
    the shifted sets, of which the flattest has the first choice among rare items. What is left is
    divided at random into `id`, valid and train, which so have the same popularity: a little
    steeper than the log's, since rare items went into the shifted sets.

    Args:
        log: interactions without test sets.
        shifts: γ of popularity shifts, `uniform` for γ = 1, `time` for the latest interactions;
            None for γ = 200, 10 and 2, uniform and, where the log has times, time.
        share: of the log, in each set; None for `SHARE`, or up to `MOST_SHARE` of a small log.
        seed: decides what is random.

    Returns:
        A data set with the tests `id`, `gamma200`, …, `uniform`, `time`, from mild to strong.

    Raises:
        ConfigError: a shift is not understood or given twice, or too much would be held out.
        DataError: the log has too few users, no times where they are asked for, or no popularity.
    """
    names = _default_shifts(log) if shifts is None else tuple(shifts)
    gammas = _gammas(names)
    n_sets = len(names) + 1 + (log.valid is None)
    share = _default_share(log.train.nnz, n_sets) if share is None else share
    _check_log(log, names, share * n_sets)
    order = [*([TIME] if TIME in names else []), *sorted(gammas, key=gammas.__getitem__), REFERENCE]
    tests: dict[str, Split] = {}
    for place, name in enumerate(order):
        left = share / (1 - share * place)  # of what the sets before it leave
        if name == TIME:
            tests[name] = Temporal(fraction=left)
        elif name == REFERENCE:
            tests[name] = Random(left)
        else:
            tests[name] = PopularityShift(gamma=gammas[name], fraction=left)
    valid = None if log.valid else Random(share / (1 - share * len(order)))
    split = log.split(tests=tests, valid=valid, seed=seed)
    mild_first = [REFERENCE, *sorted(gammas, key=lambda name: -gammas[name])]
    names = (*mild_first, *([TIME] if TIME in names else []))
    return replace(split, tests={name: split.tests[name] for name in names})


def group_shift(part: np.ndarray, train: np.ndarray, *, n_groups: int = N_GROUPS) -> float:
    """Return how far the popularity of a part is from that of train: KL over groups, in nats.

    Items are sorted by training interactions into groups of equally many; equal counts by index.
    The sign says which way: negative where the part's mean group is a more popular one.

    Args:
        part: `[n_items]` interactions with each item in the part.
        train: `[n_items]` the same in training.
        n_groups: at least 1; with fewer items, every item is a group.

    >>> train = np.array([6, 2, 1, 1])  # groups of two: 8 and 2 of 10
    >>> round(group_shift(np.array([0, 2, 4, 2]), train, n_groups=2), 4)  # 2 and 6 of 8
    0.4458
    """
    ranked = np.argsort(-train, kind="stable")
    n_groups = min(n_groups, len(train))
    group = np.empty(len(train), np.int64)
    group[ranked] = np.arange(len(train)) * n_groups // len(train)
    p, q = (np.bincount(group, counts, n_groups) for counts in (part, train))
    places = np.arange(n_groups)
    rarer = (p @ places) * q.sum() >= (q @ places) * p.sum()
    return popularity_kl(p, q) if rarer else -popularity_kl(p, q)


def describe_sets(
    data: Dataset, full: Dataset, reference: str | None, how: Mapping[str, str]
) -> tuple[SetInfo, ...]:
    """Describe the sets that are measured, the in-distribution one first, then by their shift.

    Args:
        data: with the sets as they are measured.
        full: with all their users.
        reference: name of the in-distribution set.
        how: how a set came about, by name.
    """
    counts = data.train.item_counts
    percentiles, groups = popularity_percentiles(counts), popularity_groups(counts)
    infos = []
    for name, test in measured_sets(data, reference).items():
        truth = full.parts[name]
        users, items = unseen(truth, data.train)
        infos.append(
            SetInfo(
                name=name,
                role=IN_DISTRIBUTION if name == reference else SHIFTED,
                how=how.get(name, "as it is in the data"),
                n_users=int((truth.user_counts > 0).sum()),
                n_measured=int((test.truth.user_counts > 0).sum()),
                n_positives=truth.nnz,
                shift=group_shift(truth.item_counts, counts),
                popularity_kl=popularity_kl(truth.item_counts, counts),
                head_share=float((groups[truth.indices] == 0).mean()),
                mean_percentile=float(percentiles[truth.indices].mean()),
                unseen_users=int(users.sum()),
                unseen_items=int(items.sum()),
                masked=test.masked,
            )
        )
    return _with_roles(sorted(infos, key=lambda info: (info.name != reference, info.shift)))


def _with_roles(infos: Sequence[SetInfo]) -> tuple[SetInfo, ...]:
    """Tell sets that are more popular than training from shifted ones, if any is."""
    popular = {info.name for info in infos if info.role == SHIFTED and info.shift < -POPULAR}
    if all(info.name in popular or info.role != SHIFTED for info in infos):
        return tuple(infos)
    return tuple(
        replace(info, role=MORE_POPULAR) if info.name in popular else info for info in infos
    )


def reference_of(data: Dataset) -> str | None:
    """Return the name of the in-distribution set: the test set `id`, else valid, else None."""
    return REFERENCE if REFERENCE in data.tests else "valid" if data.valid else None


def measured_sets(data: Dataset, reference: str | None) -> dict[str, Any]:
    """Return the test sets by name, the in-distribution one first, which may be valid."""
    if reference is None:
        return dict(data.tests)
    first = data.valid if reference == "valid" else data.tests[reference]
    return {reference: first} | dict(data.tests)


def limit_users(part: Interactions, most: int, rng: np.random.Generator) -> Interactions:
    """Return the interactions of at most so many users, drawn at random if there are more."""
    users = np.flatnonzero(part.user_counts)
    if len(users) <= most:
        return part
    kept = np.zeros(part.n_users, bool)
    kept[rng.choice(users, most, replace=False)] = True
    return replace(part.select(kept[part.rows]), n_duplicates=part.n_duplicates)


def _default_shifts(log: Dataset) -> tuple[str, ...]:
    return SHIFTS if log.train.time is None else (*SHIFTS, TIME)


def _default_share(n_log: int, n_sets: int) -> float:
    """Return the share of a log in each set.

    >>> _default_share(1_000_000, 5), _default_share(12_500, 5), _default_share(1_000, 5)
    (0.05, 0.08, 0.1)
    """
    return min(max(SHARE, ENOUGH / max(n_log, 1)), MOST_SHARE, MOST_HELD_OUT / n_sets)


def _gammas(names: Sequence[str]) -> dict[str, float]:
    """Return the γ of every popularity shift by the name of its test set."""
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"`shifts` must be different and at least one, got {list(names)}.")
    gammas: dict[str, float] = {}
    for text in names:
        if text == TIME:
            continue
        try:
            gamma = 1.0 if text == UNIFORM else float(text)
            PopularityShift(gamma=gamma)
        except (ValueError, ConfigError):
            raise ConfigError(
                f"`shifts` must be positive numbers (gamma), {UNIFORM!r} or {TIME!r}, got {text!r}."
            ) from None
        name = UNIFORM if gamma == 1 else f"gamma{gamma:g}"
        if name in gammas:
            raise ConfigError(f"`shifts` must be different, got {name!r} twice.")
        gammas[name] = gamma
    return gammas


def _check_log(log: Dataset, names: Sequence[str], held_out: float) -> None:
    counts = log.train.item_counts
    n_users, known = int((log.train.user_counts > 0).sum()), counts[counts > 0]
    if n_users < MIN_USERS:
        raise DataError(
            f"{log.name}: an audit needs at least {MIN_USERS} users with interactions, "
            f"got {n_users}."
        )
    if set(names) - {TIME} and len(np.unique(known)) < 2:
        raise DataError(
            f"{log.name}: popularity cannot be shifted, all {len(known)} items have the same "
            f"number of interactions."
        )
    if TIME in names and log.train.time is None:
        raise DataError(f"{log.name}: no times to split by; name the time column, or leave it out.")
    if not 0 < held_out <= MOST_HELD_OUT + 1e-9:
        raise ConfigError(
            f"`share` must be above 0 and hold at most {MOST_HELD_OUT:g} of the log out over all "
            f"sets together, got {held_out:g}."
        )
