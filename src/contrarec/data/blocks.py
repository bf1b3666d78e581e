"""Blocks of consecutive users: how a data set is divided among workers.

A worker holds the interactions of its own users and knows of the others only how many there are.
"""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from contrarec.data.dataset import Dataset, TestSet
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import ConfigError


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Where a block of consecutive users lies within the whole training log."""

    first_user: int
    """Users before it."""
    n_users: int
    """Users of the whole log."""
    first_row: int
    """Interactions before it."""
    nnz: int
    """Interactions of the whole log."""
    first_active: int
    """Users with interactions before it."""
    n_active: int
    """Users with interactions in the whole log."""
    item_counts: np.ndarray
    """`[n_items]` interactions of each item in the whole log."""


def cut_points(user_counts: np.ndarray, n_blocks: int) -> np.ndarray:
    """Return where blocks of consecutive users start and end, `[n_blocks + 1]`.

    Blocks have about equally many interactions, and each has at least one user with any.

    Args:
        user_counts: `[n_users]` interactions of each user.
        n_blocks: how many.

    Raises:
        ConfigError: there are fewer users with interactions than blocks.

    >>> cut_points(np.array([1, 1, 2, 4]), 2)
    array([0, 3, 4])
    """
    active = np.flatnonzero(user_counts)
    check_blocks(n_blocks, len(active))
    ends = np.cumsum(user_counts[active])
    wanted = ends[-1] * np.arange(1, n_blocks) / n_blocks
    cuts = np.searchsorted(ends, wanted) + 1  # active users before each cut
    return np.concatenate([[0], active[spread_cuts(cuts, len(active))], [len(user_counts)]])


def check_blocks(n_blocks: int, n_active: int) -> None:
    """Raise unless so many users with interactions can be divided into so many blocks.

    Raises:
        ConfigError: they cannot.
    """
    if not 1 <= n_blocks <= n_active:
        raise ConfigError(
            f"`workers` must be between 1 and the {n_active} users with interactions, "
            f"got {n_blocks}."
        )


def spread_cuts(cuts: np.ndarray, n_active: int) -> np.ndarray:
    """Move cuts apart where a giant user would leave its neighbours' blocks empty.

    Args:
        cuts: ascending; how many users with interactions are before each.
        n_active: users with interactions.

    >>> spread_cuts(np.array([3, 3]), 3)
    array([1, 2])
    """
    apart = cuts.copy()
    for number in range(len(cuts)):
        lowest = 1 + (apart[number - 1] if number else 0)
        apart[number] = min(max(cuts[number], lowest), n_active - (len(cuts) - number))
    return apart


def block_of(train: Interactions, first: int) -> Block:
    """Describe the block that starts with a user."""
    return Block(
        first_user=first,
        n_users=train.n_users,
        first_row=int(train.indptr[first]),
        nnz=train.nnz,
        first_active=int(np.count_nonzero(train.user_counts[:first])),
        n_active=int(np.count_nonzero(train.user_counts)),
        item_counts=train.item_counts,
    )


def slice_users(log: Interactions, first: int, last: int) -> Interactions:
    """Return the interactions of the users `first … last − 1`; items keep their vocabulary."""
    start, end = log.indptr[first], log.indptr[last]
    ids: pl.Series = log.users.ids[first:last]
    return Interactions(
        indptr=log.indptr[first : last + 1] - start,
        indices=log.indices[start:end],
        users=Vocabulary(ids, distinct=True),
        items=log.items,
    )


def slice_dataset(data: Dataset, first: int, last: int) -> Dataset:
    """Return a data set with the users `first … last − 1` alone, in every part."""

    def of(test: TestSet) -> TestSet:
        mask = None if test.mask is None else slice_users(test.mask, first, last)
        return replace(test, truth=slice_users(test.truth, first, last), mask=mask)

    return replace(
        data,
        train=slice_users(data.train, first, last),
        valid=of(data.valid) if data.valid else None,
        tests={name: of(test) for name, test in data.tests.items()},
    )
