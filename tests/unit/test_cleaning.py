"""Cleaning a log, by hand: a table of events, and which rows of it are left."""

from typing import Any

import numpy as np
import polars as pl
import pytest

import contrarec as cr
from contrarec.data import cleaning as c
from contrarec.data.durations import in_units_of
from contrarec.errors import ConfigError, DataError

LOG = pl.DataFrame(
    [
        ("u1", "a", 0, 5.0),
        ("u1", "b", 1, 2.0),
        ("u1", "a", 2, 3.0),
        ("u1", "a", 7, 4.0),
        ("u2", "a", 4, 1.0),
        ("u2", "c", 3, 4.0),
        ("u3", "b", 5, 3.5),
    ],
    schema=["user", "item", "time", "weight"],
    orient="row",
)


def rows_left(step: c.Step, log: pl.DataFrame = LOG) -> list[int]:
    """Numbers of the rows that a step leaves as they were."""
    left = step.apply(log).rows()
    assert left == [row for row in log.rows() if row in left]
    return [log.rows().index(row) for row in left]


@pytest.mark.parametrize(
    ("step", "left"),
    [
        (c.MaxRate(2, 2), [0, 1, 2, 3, 4, 5, 6]),  # u1 has two in [0, 2), the third is at 2
        (c.MaxRate(2, 3), [4, 5, 6]),  # three in [0, 3)
        (c.MaxRate(1, 1), [0, 1, 2, 3, 4, 5, 6]),
        (c.MaxRate(1, 1.5), [6]),  # u2: at 3 and 4, though the rows stand the other way round
        (c.MaxRate(3, 8), [4, 5, 6]),  # four in [0, 8)
        (c.MaxRate(3, 7), [0, 1, 2, 3, 4, 5, 6]),
        (c.MaxPerUser(4), [0, 1, 2, 3, 4, 5, 6]),
        (c.MaxPerUser(3), [4, 5, 6]),
        (c.MaxPerUser(1), [6]),
        (c.MaxPerUser(2, "latest"), [2, 3, 4, 5, 6]),
        (c.MaxPerUser(1, "latest"), [3, 4, 6]),  # u2's latest is its first row
        (c.Sessions(1), [1, 2, 3, 4, 5, 6]),  # u1: 0 1 2 | 7; the a at 0 is repeated at 2
        (c.Sessions(5), [1, 3, 4, 5, 6]),  # u1: one session
        (c.Sessions(0.5), [0, 1, 2, 3, 4, 5, 6]),
        (c.MinWeight(4), [0, 3, 5]),
        (c.MinWeight(3.5), [0, 3, 5, 6]),
        (c.KCore(2, 2), [0, 1, 2, 3]),  # set below: u3 and c go, u2 has only a, and so on
    ],
)
def test_which_events_are_left(step: c.Step, left: list[int]) -> None:
    if isinstance(step, c.KCore):  # u1: a b, u3: a b, and u2 falls with c
        log = pl.concat([LOG, pl.DataFrame([("u3", "a", 9, 1.0)], LOG.schema, orient="row")])
        assert rows_left(step, log) == [*left, 6, 7]
    else:
        assert rows_left(step) == left


def test_of_events_at_one_time_the_later_rows_stay() -> None:
    log = pl.DataFrame({"user": [1, 1, 1], "item": [5, 6, 7], "time": [2, 2, 1]})
    assert c.MaxPerUser(1, "latest").apply(log)["item"].to_list() == [6]


def test_sessions_as_users() -> None:
    left = c.Sessions(1, as_users=True).apply(LOG)
    assert left["user"].to_list() == ["u1/1", "u1/1", "u1/1", "u1/2", "u2/1", "u2/1", "u3/1"]
    assert left.drop("user").equals(LOG.drop("user"))


@pytest.mark.parametrize(
    ("weight", "of_u1_a"),
    [("count", 3), ("log_count", np.log(4)), ("sum", 12), ("mean", 4), ("max", 5), ("first", 5),
     ("last", 4)],
)  # fmt: skip
def test_repeats_make_one_event(weight: Any, of_u1_a: float) -> None:
    by_time_descending = LOG.sort("time", descending=True)
    for log in (LOG, by_time_descending):
        left = c.Repeats(weight).apply(log)
        assert left.columns == ["user", "item", "time", "weight"]
        assert left.height == 5
        (pair,) = left.filter(user="u1", item="a").rows()
        assert pair == ("u1", "a", 7, pytest.approx(of_u1_a))


def test_repeats_without_times_and_weights() -> None:
    log = LOG.select("user", "item")
    assert c.Repeats("count").apply(log)["weight"].to_list() == [3, 1, 1, 1, 1]
    assert c.Repeats("none").apply(LOG).columns == ["user", "item", "time"]
    assert c.Repeats("first").apply(LOG.drop("time"))["weight"].to_list() == [5, 2, 1, 4, 3.5]
    assert c.Unweighted().apply(LOG).equals(LOG.drop("weight"))
    assert c.Unweighted().apply(log).equals(log)


def test_each_step_is_recorded_with_what_was_there_before_and_after() -> None:
    frame = LOG.rename({"user": "who", "weight": "rating"})
    data = cr.cleaning.clean(
        frame, [c.MinWeight(2), c.KCore(1, 2), c.Unweighted()], user="who", weight="rating"
    )
    assert data.steps == (
        "MinWeight(at_least=2.0): 7 events of 3 users and 3 items → "
        "6 events of 3 users and 3 items",
        "KCore(per_user=1, per_item=2): 6 events of 3 users and 3 items → "
        "2 events of 2 users and 1 items",
        "Unweighted(): 2 events of 2 users and 1 items → 2 events of 2 users and 1 items",
    )  # fmt: skip


def test_steps_are_kept_by_files(tmp_path) -> None:
    data = cr.cleaning.clean(LOG, [c.MinWeight(2)], name="mine")
    split = data.split(tests={"t": cr.splits.Random(0.5)})
    split.save(tmp_path / "parts")
    read = cr.Dataset.load(tmp_path / "parts")
    assert read.steps == split.steps
    assert len(read.steps) == 3  # cleaned, two repeated pairs collapsed, split
    read.save(tmp_path / "again")
    assert cr.Dataset.load(tmp_path / "again").steps == split.steps


def test_frames_are_answered_in_kind() -> None:
    assert cr.cleaning.clean(LOG.to_pandas(), [c.MinWeight(2)]).frame == "pandas"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: c.MaxRate(0, 1), "`n` must be at least 1, got 0"),
        (lambda: c.MaxRate(1, "1 hour"), "`window` must be a positive number in the units"),
        (lambda: c.MaxRate(1, 0), "`window` must be a positive number in the units"),
        (lambda: c.MaxPerUser(1, "newest"), "choices: latest, remove"),
        (lambda: c.Sessions(-1), "`gap` must be"),
        (lambda: c.Sessions(float("inf")), "`gap` must be"),
        (lambda: c.Repeats("median"), "choices: count, first"),
        (lambda: c.MinWeight(float("nan")), "`at_least` must be finite, got nan"),
        (lambda: c.KCore(5, 0), "`per_item` must be at least 1, got 0"),
    ],
)
def test_settings_are_checked(make: Any, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("step", "without"),
    [
        (c.MaxRate(1, 1), "time"),
        (c.MaxPerUser(1, "latest"), "time"),
        (c.Sessions(1), "time"),
        (c.MinWeight(1), "weight"),
        (c.Repeats("sum"), "weight"),
    ],
)
def test_what_a_log_lacks_is_named(step: c.Step, without: str) -> None:
    with pytest.raises(DataError, match=f"needs {without}s, and the log has none"):
        step.apply(LOG.drop(without))


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(DataError, match=r"nothing is left of the log: MinWeight\(at_least=9.0\)"):
        cr.cleaning.clean(LOG, [c.MinWeight(9), c.KCore()])


@pytest.mark.parametrize("ticks", [1, 1000, 10**6, 10**9])
def test_durations_in_the_units_of_the_log(ticks: int) -> None:
    for moment in (200_000_000, 1_700_000_000):  # 1976, 2023
        times = pl.Series([0, moment * ticks])
        assert in_units_of(times, "90s") == 90 * ticks
        assert in_units_of(times, "1.5h") == 5400 * ticks
        assert in_units_of(times, "2d") == 172_800 * ticks
        assert in_units_of(times, 7) == 7


def test_durations_need_times_since_1970() -> None:
    with pytest.raises(DataError, match="'30m' needs times since 1970 and the log's go up to 7"):
        c.Sessions("30m").apply(LOG)


def test_dates_are_times_in_microseconds() -> None:
    hours = [f"2024-05-31T{hour}:00" for hour in ("10:00", "10:20", "11:00")]
    log = pl.DataFrame({"user": [1, 1, 1], "item": [1, 1, 1], "ts": hours})
    data = cr.cleaning.clean(log, [c.Sessions("30m"), c.Repeats("count")])
    assert data.train.weight is not None
    assert data.train.weight.tolist() == [2]  # 10:00 and 10:20 are one visit
