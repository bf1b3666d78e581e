"""Ways to hold interactions out of a log; `Dataset.split` applies them.

In the pictures below, a line is a user, and `[x]` is an interaction that is held out.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import numpy as np

from contrarec.config import require, settle
from contrarec.data.interactions import Interactions
from contrarec.errors import ConfigError, DataError


class Split(Protocol):
    """A way to hold interactions out."""

    def take(self, log: Interactions, rng: np.random.Generator) -> np.ndarray:
        """Return which interactions are held out: bool `[nnz]`.

        Raises:
            DataError: the log lacks what this way needs, such as times.
        """
        ...

    def account(self, log: Interactions, taken: np.ndarray) -> str:
        """Say in a phrase what was asked for, and what came of it."""
        ...


class _Counted:
    """The account of a split whose size says everything."""

    def account(self, log: Interactions, taken: np.ndarray) -> str:
        """Say in a phrase what was asked for, and what came of it."""
        return f"{self}, {taken.sum()} of {log.nnz} interactions"


@dataclass(frozen=True)
class Random(_Counted):
    """Hold out a fraction of all interactions, each as likely as any other.

    u1   a [b] c  d         u4   a [c]
    u2   a  b               u5  [b]
    u3  [a] c  e            u6   b  d  e
    """

    fraction: float = 0.1
    """Share of the interactions, above 0 and below 1; the number is rounded."""

    def __post_init__(self) -> None:
        settle(self)
        _require_fraction(self.fraction)

    def take(self, log: Interactions, rng: np.random.Generator) -> np.ndarray:
        """Return which interactions are held out: bool `[nnz]`."""
        taken = np.zeros(log.nnz, dtype=bool)
        order = rng.permutation(np.arange(log.nnz, dtype=np.int32))  # half of what int64 takes
        taken[order[: round(self.fraction * log.nnz)]] = True
        return taken


@dataclass(frozen=True)
class LeaveLastN(_Counted):
    """Hold out the last n interactions of every user that has more than n.

    With n = 1, the interactions in the order of time:

        u1   d  a  c [b]        u4   c [a]
        u2   b [a]              u5   b
        u3   e  a [c]           u6   d  b [e]

    Of two interactions of a user at one time, the one with the higher item index is the later.
    """

    n: int = 1
    """Interactions a user, at least 1."""

    def __post_init__(self) -> None:
        settle(self)
        require(self.n >= 1, "n", "be at least 1", self.n)

    def take(self, log: Interactions, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG002
        """Return which interactions are held out: bool `[nnz]`; nothing here is random."""
        order = np.lexsort((_times(log, self), log.rows))
        to_the_end = np.repeat(log.indptr[1:], log.user_counts) - np.arange(log.nnz)
        taken = np.empty(log.nnz, dtype=bool)
        taken[order] = (to_the_end <= self.n) & (log.user_counts > self.n)[log.rows]
        return taken


@dataclass(frozen=True)
class Temporal(_Counted):
    """Hold out everything from one moment on, the same for all users.

    Time runs from left to right, and the moment is at the bar:

        u1  a     b  | [c]      u4     c    | [a]
        u2     a     |          u5          | [b]
        u3  c  a  e  |          u6  b  d    | [e]

    Interactions of one moment stay together, so that nothing in train is later than, or as late
    as, anything held out.
    """

    fraction: float | None = None
    """The moment is the earliest after which at most this share of the interactions remains."""
    at: float | str | None = None
    """The moment itself: in the units of the log's times, or a date like `2024-05-31` (in UTC if
    it says no zone) where these are microseconds since 1970, as dates become when they are read."""

    def __post_init__(self) -> None:
        settle(self)
        one = (self.fraction is None) != (self.at is None)
        require(one, "fraction", "be given, or else `at`, and not both", self.fraction)
        if self.fraction is not None:
            _require_fraction(self.fraction)
        if isinstance(self.at, str):
            try:
                datetime.fromisoformat(self.at)
            except ValueError:
                raise ConfigError(f"`at` must be a number or a date, got {self.at!r}.") from None

    def take(self, log: Interactions, rng: np.random.Generator) -> np.ndarray:  # noqa: ARG002
        """Return which interactions are held out: bool `[nnz]`; nothing here is random."""
        time = _times(log, self)
        if self.at is not None:
            late: np.ndarray = time >= self._moment()
            return late
        ordered = np.sort(time)
        first = log.nnz - int(round(self.fraction * log.nnz, 6))  # type: ignore[operator]
        held: np.ndarray = time > ordered[first - 1]
        return held

    def _moment(self) -> float:
        if not isinstance(self.at, str):
            return float(self.at)  # type: ignore[arg-type]
        moment = datetime.fromisoformat(self.at)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment.timestamp() * 1e6


@dataclass(frozen=True)
class PopularityShift:
    """Hold out interactions so that their item popularity follows a curve that is chosen.

    Items with interactions are sorted by popularity into G groups of equally many, group 1 the
    most popular. An item of group g gets a quota

        n_i = c · γ^(−(g − 1)/(G − 1)),        Σ_i n_i = fraction · (all interactions).

    γ is how many times more often the first group's items are tested than the last one's: γ = 1
    makes all items equally popular in the test, whatever they are in the log. With γ = 1, items
    from popular to rare:

        u1   a  b [c] d         u4   a [b]
        u2  [a] b               u5   a
        u3   a  c    [d]        u6   a  b  c

    An item that has too few interactions gives what it has, and c is made larger until the quotas
    of the others fill the gap: the curve stays exact wherever the log has enough. If it has not
    enough for all of them, less is held out. The `account` says how many items were short.

    A quota between two integers is rounded down or up at random, so that the sum stays exact. Of
    an item's interactions each is as likely as any other.

    Source: the Tencent protocol of the AdvInfoNCE paper (NeurIPS 2023), with γ = 200, 10 and 2.
    """

    gamma: float = 1.0
    """γ, positive. Below 1 the test prefers what the log has least of."""
    fraction: float = 0.1
    """Share of the interactions, above 0 and below 1."""
    n_groups: int = 10
    """G, at least 1; with fewer items than that, every item is a group."""
    keep: int = 1
    """Interactions of each item that are never held out, so that no item becomes unknown."""

    def __post_init__(self) -> None:
        settle(self)
        require(0 < self.gamma < np.inf, "gamma", "be positive and finite", self.gamma)
        _require_fraction(self.fraction)
        require(self.n_groups >= 1, "n_groups", "be at least 1", self.n_groups)
        require(self.keep >= 0, "keep", "be non-negative", self.keep)

    def quotas(self, counts: np.ndarray) -> np.ndarray:
        """Return how much of each item is to be held out, before rounding.

        Args:
            counts: `[n_items]` interactions of each item in the log.

        Returns:
            `[n_items]` float64, at most `counts - keep`.

        >>> PopularityShift(gamma=4, fraction=0.5, n_groups=3).quotas(np.array([20, 10, 12]))
        array([12.,  3.,  6.])
        """
        available, wanted = self._wanted(counts)
        quotas: np.ndarray = np.minimum(available, wanted)
        return quotas

    def take(self, log: Interactions, rng: np.random.Generator) -> np.ndarray:
        """Return which interactions are held out: bool `[nnz]`."""
        counts = log.item_counts
        quotas = self.quotas(counts)
        # Items of a group stand together in random order, and running sums are rounded: each item
        # gets its quota rounded down or up, and every stretch of items their sum.
        order = np.lexsort((rng.random(log.n_items), -quotas))
        sums = np.floor(np.cumsum(quotas[order]) + rng.random())
        whole = np.empty(log.n_items, dtype=np.int64)
        whole[order] = np.diff(sums, prepend=0)
        by_item = np.lexsort((rng.random(log.nnz), log.indices))
        place = np.arange(log.nnz) - np.repeat(np.cumsum(counts) - counts, counts)
        taken = np.empty(log.nnz, dtype=bool)
        taken[by_item] = place < np.repeat(whole, counts)
        return taken

    def account(self, log: Interactions, taken: np.ndarray) -> str:
        """Say in a phrase what was asked for, and what came of it."""
        available, wanted = self._wanted(log.item_counts)
        short = (wanted > available + 1e-6).sum()  # not by a rounding error
        asked = self._asked(log.nnz)
        text = f"{self}, {taken.sum()} of {log.nnz} interactions"
        text += f" where {asked} were asked for" if taken.sum() < asked else ""
        return text + (
            f", {short} of {(log.item_counts > 0).sum()} items had less than their quota"
            if short
            else ""
        )

    def _asked(self, n_log: int) -> int:
        return round(self.fraction * n_log)

    def _wanted(self, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what each item can give, and `c · shape`; both `[n_items]`."""
        available = np.where(counts > 0, np.maximum(counts - self.keep, 0), 0)
        shape = self.curve(counts)
        used = shape > 0
        wanted = np.zeros(len(counts))
        level = water_level(available[used], shape[used], self._asked(int(counts.sum())))
        wanted[used] = level * shape[used]
        return available, wanted

    def curve(self, popularity: np.ndarray) -> np.ndarray:
        """Return `γ^(−(g − 1)/(G − 1))` for each item's group g; 0 for an item nobody knows.

        Args:
            popularity: `[n_items]`, what the items are grouped by.
        """
        ranked = np.argsort(-popularity, kind="stable")[: (popularity > 0).sum()]
        n_groups = min(self.n_groups, len(ranked))
        group = np.arange(len(ranked)) * n_groups // max(len(ranked), 1)
        curve = np.zeros(len(popularity))
        curve[ranked] = self.gamma ** (-group / max(n_groups - 1, 1))
        return curve


def _require_fraction(fraction: float) -> None:
    require(0 < fraction < 1, "fraction", "be above 0 and below 1", fraction)


def _times(log: Interactions, split: Split) -> np.ndarray:
    if log.time is None:
        raise DataError(f"{split} needs times, and the log has none; name its time column.")
    return log.time


def water_level(available: np.ndarray, shape: np.ndarray, asked: float) -> float:
    """Return the c with `Σ_i min(available_i, c · shape_i) = asked`; infinity if they give all.

    As c grows, items run out one after the other. With k of them used up, c is what is still
    missing over the sum of the others' shapes; the right k is the first after which the next item
    can give its share.

    Args:
        available: `[n]`, what each can give, non-negative.
        shape: `[n]`, in which proportion they are asked, positive.
        asked: how much they are to give together.

    >>> water_level(np.array([1, 9, 9]), np.array([1.0, 1.0, 2.0]), 10.0)  # 1 + 3 + 6
    3.0
    """
    if asked >= available.sum():
        return np.inf
    order = np.argsort(available / shape)
    given, rest = available[order], shape[order]
    missing = asked - (np.cumsum(given) - given)
    level = missing / np.cumsum(rest[::-1])[::-1]
    return float(level[np.argmax(level <= given / rest)])
