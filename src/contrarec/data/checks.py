"""A linter for data sets: what makes results wrong, or not what they seem."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from contrarec.data.dataset import Dataset
from contrarec.data.interactions import Interactions
from contrarec.data.report import unseen

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """Something to know before results are believed."""

    level: Level
    """`error`: results are wrong with it. `warning`: they may not mean what they seem to."""
    what: str
    """What was found, a phrase."""
    where: str
    """The part or parts."""
    count: int
    """How often: pairs, users, items or parts."""


def check(data: Dataset) -> list[Finding]:
    """Look for what makes results wrong; errors come first.

    - Empty parts.
    - Test sets that are the same, or the same as valid: two results would be one.
    - Pairs that train shares with valid or a test set, or valid with a test set: such a pair is
      never masked, so that it is judged whether a model remembers what it was shown. A warning,
      since tests collected by themselves (Coat's) have some; an error if it is over half of a part.
    - Users who have every item in train, so that no negative can be drawn for them.
    - Users and items of a part that have no history in train.
    - Positives that are no candidates and can never be found.
    - Repeated pairs, which were collapsed.

    Returns:
        The findings; empty if there are none.
    """
    kinds = (_empty, _identical, _overlaps, _full, _unseen, _not_candidates, _repeated)
    found = [finding for kind in kinds for finding in kind(data)]
    return sorted(found, key=lambda finding: finding.level)  # "error" < "warning"


def _empty(data: Dataset) -> Iterator[Finding]:
    for name, log in data.parts.items():
        if not log.nnz:
            yield Finding("error", "no interactions", name, 0)


def _identical(data: Dataset) -> Iterator[Finding]:
    held_out = {name: log for name, log in data.parts.items() if name != "train" and log.nnz}
    for (one, first), (other, second) in combinations(held_out.items(), 2):
        if _same(first, second):
            yield Finding("error", "the same interactions in both", f"{one}, {other}", first.nnz)


def _overlaps(data: Dataset) -> Iterator[Finding]:
    held_out = {name: log for name, log in data.parts.items() if name != "train"}
    pairs = [("train", name) for name in held_out]
    pairs += [("valid", name) for name in held_out if name != "valid" and data.valid]
    for earlier, name in pairs:
        first, log = data.parts[earlier], held_out[name]
        shared = int(log.isin(first).sum())
        if shared and (earlier == "train" or not _same(first, log)):
            level: Level = "error" if shared > log.nnz / 2 else "warning"
            yield Finding(level, "pairs in both", f"{earlier}, {name}", shared)


def _full(data: Dataset) -> Iterator[Finding]:
    full = int((data.train.user_counts == data.n_items).sum())
    if full and data.n_items:
        yield Finding("error", "users with every item in their history", "train", full)


def _unseen(data: Dataset) -> Iterator[Finding]:
    for name, log in data.parts.items():
        for kind, who in zip(("users", "items"), unseen(log, data.train), strict=True):
            if who.any():
                yield Finding("warning", f"{kind} without training history", name, int(who.sum()))


def _not_candidates(data: Dataset) -> Iterator[Finding]:
    if data.candidates is None:
        return
    for name, log in data.parts.items():
        lost = int((~np.isin(log.indices, data.candidates)).sum())
        if lost and name != "train":
            yield Finding("warning", "positives that are no candidates", name, lost)


def _repeated(data: Dataset) -> Iterator[Finding]:
    for name, log in data.parts.items():
        if log.n_duplicates:
            yield Finding("warning", "repeated pairs, collapsed", name, log.n_duplicates)


def _same(one: Interactions, other: Interactions) -> bool:
    return np.array_equal(one.indptr, other.indptr) and np.array_equal(one.indices, other.indices)
