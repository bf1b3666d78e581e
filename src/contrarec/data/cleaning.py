"""Ways to clean a log before it is split; `clean` applies them, one after the other.

They work on events: a pair of a user and an item that comes twice is two of them. In the pictures
below a line is a user in the order of time, and `[x]` is an event that goes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, Unpack

import polars as pl

from contrarec.config import require, settle
from contrarec.data.columns import ColumnNames
from contrarec.data.dataset import Dataset
from contrarec.data.durations import in_units_of, require_duration
from contrarec.data.interactions import Interactions
from contrarec.data.kcore import k_core
from contrarec.data.readers import frame_kind, read_log
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import DataError


class Step(Protocol):
    """A way to clean a log."""

    def apply(self, log: pl.DataFrame) -> pl.DataFrame:
        """Return what is left of a frame of `user`, `item` and perhaps `time` and `weight`.

        Raises:
            DataError: the log lacks what this way needs, such as times.
        """
        ...


def clean(
    source: Any, steps: Iterable[Step], *, name: str = "cleaned", **columns: Unpack[ColumnNames]
) -> Dataset:
    """Read a log and clean it; all of what is left is train until it is `split`.

    Args:
        source: a path, frame or matrix that `read_log` can read.
        steps: what is done, in this order.
        name: for reports.
        **columns: names of the columns for `user`, `item`, `time`, `weight`.

    Returns:
        A data set whose `steps` say what each step was and what was there before and after it.

    Raises:
        DataError: the log is broken, lacks what a step needs, or nothing is left of it.
    """
    log, accounts = clean_log(read_log(source, **columns), steps)
    data = Dataset.from_frame(log, name=name)
    return replace(data, steps=accounts + data.steps, frame=frame_kind(source))


def clean_log(log: pl.DataFrame, steps: Iterable[Step]) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Clean a log that `read_log` returned.

    Returns:
        What is left, in the order of the log, and an account of each step.

    Raises:
        DataError: the log lacks what a step needs, or nothing is left of it.
    """
    accounts = []
    for step in steps:
        before, log = log, step.apply(log)
        accounts.append(f"{step}: {_sizes(before)} → {_sizes(log)}")
        if log.is_empty():
            raise DataError(f"nothing is left of the log: {accounts[-1]}.")
    return log, tuple(accounts)


@dataclass(frozen=True)
class MaxRate:
    """Remove users who were ever faster than anyone reads: bots.

    With at most 2 events in any window of 3, at the times 0 to 9:

        u1   a . . b . . c . . d        u2  [a][b][c] . . . . . . .
    """

    n: int
    """Events of a user that a window may hold, at least 1."""
    window: float | str
    """Its length, from its first moment up to but without its last: in the units of the log's
    times, or a text such as `90s`, `30m`, `12h` or `7d`."""

    def __post_init__(self) -> None:
        settle(self)
        require(self.n >= 1, "n", "be at least 1", self.n)
        require_duration(self.window, "window")

    def apply(self, log: pl.DataFrame) -> pl.DataFrame:
        """Return the events of the others."""
        length = in_units_of(_column(log, "time", self), self.window)
        too_fast = (pl.col("time").sort().diff(self.n) < length).any()
        fast = log.group_by("user").agg(too_fast).filter("time").select("user")
        return log.join(fast, on="user", how="anti", maintain_order="left")


@dataclass(frozen=True)
class MaxPerUser:
    """Bound the events of a user: remove who has more than n, or keep the latest n.

    With n = 2, `remove` and then `latest`:

        u1  [a][b][c]                   u1  [a] b  c
        u2   a  b                       u2   a  b
    """

    n: int
    """Events a user, at least 1."""
    excess: Literal["remove", "latest"] = "remove"
    """Who has more is removed, or keeps the latest n; of events at one time, the later rows."""

    def __post_init__(self) -> None:
        settle(self)
        require(self.n >= 1, "n", "be at least 1", self.n)

    def apply(self, log: pl.DataFrame) -> pl.DataFrame:
        """Return the events within the bound."""
        if self.excess == "remove":
            return log.filter(pl.len().over("user") <= self.n)
        _column(log, "time", self)
        place = pl.col("time").rank("ordinal").over("user")
        return log.filter(place > pl.len().over("user").cast(pl.Int64) - self.n)


@dataclass(frozen=True)
class Sessions:
    """Count what a user repeats within a session once, or make each session a user of its own.

    A session ends where the user does nothing for longer than `gap`. With a gap of 2, at the
    times 0 to 9, and then the same with `as_users`:

        u1  [a] b  a . . . . a . .      u1/1   a  b  a . . . . . . .
                                        u1/2   . . . . . . . a . .
    """

    gap: float | str
    """Time without an event of the user: in the units of the log's times, or a text such as `30m`.
    """
    as_users: bool = False
    """Whether each session becomes a user, `<user>/<number>`; repetitions stay."""

    def __post_init__(self) -> None:
        settle(self)
        require_duration(self.gap, "gap")

    def apply(self, log: pl.DataFrame) -> pl.DataFrame:
        """Return the last event of each item in each session, or all with sessions as users."""
        gap = in_units_of(_column(log, "time", self), self.gap)
        starts = (pl.col("time").diff() > gap).fill_null(True).cum_sum().over("user")
        by_time = log.with_row_index("row").sort("user", "time", "row")
        by_time = by_time.with_columns(session=starts)
        if self.as_users:
            user = pl.format("{}/{}", "user", "session")
            return by_time.with_columns(user=user).sort("row").select(log.columns)
        once = by_time.unique(["user", "session", "item"], keep="last")
        return once.sort("row").select(log.columns)


@dataclass(frozen=True)
class Repeats:
    """Make one event of all events of a pair, at the time of the last of them."""

    weight: Literal["count", "log_count", "sum", "mean", "max", "first", "last", "none"] = "count"
    """What its weight is: how many there were, log(1 + how many), something of their weights
    (`first` and `last` by time, or by row in a log without times), or nothing."""

    def __post_init__(self) -> None:
        settle(self)

    def apply(self, log: pl.DataFrame) -> pl.DataFrame:
        """Return an event a pair, in the order in which the pairs came first."""
        ways = {"count": pl.len().cast(pl.Float64), "log_count": pl.len().cast(pl.Float64).log1p()}
        if self.weight not in (*ways, "none"):
            _column(log, "weight", self)
            value = pl.col("weight")
            if self.weight in ("first", "last") and "time" in log.columns:
                value = value.sort_by("time", maintain_order=True)
            ways[self.weight] = getattr(value, self.weight)()
        made = [] if self.weight == "none" else [ways[self.weight].alias("weight")]
        made += [pl.col("time").max()] if "time" in log.columns else []
        pairs = log.group_by("user", "item", maintain_order=True).agg(made)
        return pairs.select(name for name in ("user", "item", "time", "weight") if name in pairs)


@dataclass(frozen=True)
class MinWeight:
    """Keep the events of enough weight, such as ratings of at least 4."""

    at_least: float
    """The lowest weight that stays."""

    def __post_init__(self) -> None:
        settle(self)
        require(abs(self.at_least) < float("inf"), "at_least", "be finite", self.at_least)

    def apply(self, log: pl.DataFrame) -> pl.DataFrame:
        """Return the events of enough weight."""
        _column(log, "weight", self)
        return log.filter(pl.col("weight") >= self.at_least)


@dataclass(frozen=True)
class Unweighted:
    """Forget the weights: every event that is left counts the same."""

    def apply(self, log: pl.DataFrame) -> pl.DataFrame:
        """Return the events without weights."""
        return log.drop("weight", strict=False)


@dataclass(frozen=True)
class KCore:
    """Remove users with too few distinct items and items with too few distinct users, repeatedly.

    With 2 for both: c goes, then u2 has too little, then b, and then nothing any more.

        u1   a [b] d            u3   a  d
        u2  [b][c]
    """

    per_user: int = 5
    """Distinct items that a user must have left, at least 1."""
    per_item: int = 5
    """Distinct users that an item must have left, at least 1."""

    def __post_init__(self) -> None:
        settle(self)
        for name in ("per_user", "per_item"):
            require(getattr(self, name) >= 1, name, "be at least 1", getattr(self, name))

    def apply(self, log: pl.DataFrame) -> pl.DataFrame:
        """Return the events of the core."""
        users, items = Vocabulary.of(log["user"]), Vocabulary.of(log["item"])
        user, item = users.index(log["user"]), items.index(log["item"])
        pairs = Interactions.from_pairs(user, item, users=users, items=items)
        left = k_core(pairs, per_user=self.per_user, per_item=self.per_item)
        return log.filter(left[0][user] & left[1][item])


def _column(log: pl.DataFrame, name: str, step: Step) -> pl.Series:
    if name not in log.columns:
        raise DataError(f"{step} needs {name}s, and the log has none; name its {name} column.")
    return log[name]


def _sizes(log: pl.DataFrame) -> str:
    users, items = log["user"].n_unique(), log["item"].n_unique()
    return f"{log.height} events of {users} users and {items} items"
