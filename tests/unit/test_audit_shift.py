"""Shifted test sets of a log: what is taken, in which order, and how far it is from training."""

import numpy as np
import polars as pl
import pytest

from contrarec.audit.shift import (
    describe_sets,
    group_shift,
    limit_users,
    measured_sets,
    reference_of,
    split_log,
)
from contrarec.data.dataset import Dataset
from contrarec.errors import ConfigError, DataError


def make_log(n_users: int = 200, n_items: int = 60, *, times: bool = False) -> Dataset:
    """Item i is liked with a chance that falls with i; later interactions have later times."""
    rng = np.random.default_rng(0)
    likes = np.argwhere(rng.random((n_users, n_items)) < 0.9 / (1 + np.arange(n_items)) ** 0.7)
    columns = {"user_id": likes[:, 0], "item_id": likes[:, 1]}
    if times:
        columns["time"] = rng.permutation(len(likes))
    return Dataset.from_frame(pl.DataFrame(columns), name="log")


def test_the_sets_of_a_log() -> None:
    log = make_log()
    data = split_log(log, share=0.05)
    assert list(data.tests) == ["id", "gamma200", "gamma10", "gamma2", "uniform"]
    parts = data.parts
    keys = np.concatenate([part.keys for part in parts.values()])
    assert np.array_equal(np.sort(keys), log.train.keys)  # nothing lost, nothing twice
    expected = round(0.05 * log.train.nnz)
    for name, part in parts.items():
        if name != "train":
            assert abs(part.nnz - expected) <= 1
    assert all(test.masked == ("train", "valid") for test in data.tests.values())


def test_a_stronger_shift_is_further_from_training() -> None:
    data = split_log(make_log(n_users=2000), share=0.05)
    infos = describe_sets(data, data, "id", {})
    assert [info.name for info in infos] == list(data.tests)
    # γ = 200 falls more steeply than this log, whose items differ by 60^.7 = 18
    assert abs(infos[0].shift) < 0.02 < -infos[1].shift
    shifts = [info.shift for info in infos[1:]]
    assert shifts == sorted(shifts)
    heads = [info.head_share for info in infos[1:]]
    assert heads == sorted(heads, reverse=True)
    assert infos[1].head_share > infos[0].head_share > infos[2].head_share
    assert [info.role for info in infos] == ["in distribution", "more popular"] + ["shifted"] * 3


def test_where_all_are_more_popular_they_are_what_there_is() -> None:
    data = split_log(make_log(n_users=2000), ("400", "200"))
    infos = describe_sets(data, data, "id", {})
    assert [info.name for info in infos] == ["id", "gamma400", "gamma200"]
    assert [info.role for info in infos[1:]] == ["shifted", "shifted"]


def test_time_comes_first_so_that_nothing_else_is_later() -> None:
    log = make_log(times=True)
    data = split_log(log, share=0.05)
    assert list(data.tests)[-1] == "time"
    latest = data.tests["time"].truth.time
    assert latest is not None
    for name, part in data.parts.items():
        if name != "time":
            assert part.time is not None
            assert part.time.max() < latest.min()


def test_only_what_is_asked_for() -> None:
    data = split_log(make_log(), ("3.5", "uniform"))
    assert list(data.tests) == ["id", "gamma3.5", "uniform"]
    again = split_log(make_log(), ("uniform", "3.5"))
    other = split_log(make_log(), ("uniform", "3.5"), seed=1)
    assert data.fingerprint() == again.fingerprint() != other.fingerprint()


def test_a_validation_set_that_is_there_stays() -> None:
    log = make_log()
    keep = np.arange(log.train.nnz) % 10 > 0
    data = Dataset.from_parts(train=log.train.select(keep), valid=log.train.select(~keep))
    split = split_log(data)
    assert split.valid is not None
    assert np.array_equal(split.valid.truth.keys, log.train.select(~keep).keys)


@pytest.mark.parametrize(
    ("shifts", "share", "error", "message"),
    [
        (("time",), 0.05, DataError, "no times to split by"),
        (("0",), 0.05, ConfigError, "`shifts` must be positive numbers .* got '0'"),
        (("steep",), 0.05, ConfigError, "got 'steep'"),
        (("2", "2"), 0.05, ConfigError, "different and at least one"),
        (("uniform", "1"), 0.05, ConfigError, "got 'uniform' twice"),
        ((), 0.05, ConfigError, "at least one"),
        (None, 0.2, ConfigError, "`share` must be above 0 and hold at most 0.6"),
        (None, -0.1, ConfigError, "`share` must be above 0"),
    ],
)
def test_what_cannot_be_split(
    shifts: tuple[str, ...] | None, share: float, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        split_log(make_log(), shifts, share=share)


def test_logs_that_are_too_small_or_have_no_popularity() -> None:
    few = make_log(n_users=12)
    with pytest.raises(DataError, match=r"log: an audit needs at least 20 users .* got 12"):
        split_log(few)
    everyone = [(u, i) for u in range(30) for i in range(5)]
    flat = Dataset.from_frame(
        pl.DataFrame(everyone, schema=["user_id", "item_id"], orient="row"), name="flat"
    )
    with pytest.raises(DataError, match="flat: popularity cannot be shifted, all 5 items"):
        split_log(flat)


def test_the_shift_by_hand() -> None:
    # groups of two: {0, 3} and {1, 2}; train 9 and 1 of 10, part 1 and 3 of 4
    train, part = np.array([5, 1, 0, 4]), np.array([1, 1, 2, 0])
    p, q = np.array([2 / 6, 4 / 6]), np.array([10 / 12, 2 / 12])
    expected = p[0] * np.log(p[0] / q[0]) + p[1] * np.log(p[1] / q[1])
    assert group_shift(part, train, n_groups=2) == pytest.approx(expected)
    assert group_shift(train, train, n_groups=2) == 0
    # the other way: 4 and 0 of 4 are more popular than 9 and 1 of 10
    p = np.array([5 / 6, 1 / 6])
    towards = p[0] * np.log(p[0] / q[0]) + p[1] * np.log(p[1] / q[1])
    assert group_shift(np.array([4, 0, 0, 0]), train, n_groups=2) == pytest.approx(-towards)
    assert group_shift(np.array([6, 0, 0, 0]), train, n_groups=2) < 0


def test_the_description_by_hand() -> None:
    # train counts 4, 2, 1, 0: head {0}, middle {1}, tail {2, 3}; percentiles 100, 66.7, 33.3, 0
    train = [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (1, 1), (2, 2)]
    test = [(3, 1), (3, 3), (4, 0)]

    def frame(pairs: list[tuple[int, int]]) -> pl.DataFrame:
        return pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row")

    data = Dataset.from_parts(train=frame(train), tests={"ood": frame(test)})
    (info,) = describe_sets(data, data, None, {"ood": "by hand"})
    assert (info.n_users, info.n_positives, info.unseen_users, info.unseen_items) == (2, 3, 1, 1)
    assert info.head_share == pytest.approx(1 / 3)
    assert info.mean_percentile == pytest.approx((100 * 2 / 3 + 0 + 100) / 3)
    assert (info.how, info.role, info.masked) == ("by hand", "shifted", ("train",))


def test_what_stands_for_in_distribution() -> None:
    split = split_log(make_log(), ("2",))
    assert reference_of(split) == "id"
    assert list(measured_sets(split, "id")) == ["id", "gamma2"]
    other = Dataset.from_parts(
        train=split.train, valid=split.parts["valid"], tests={"ood": split.parts["gamma2"]}
    )
    assert reference_of(other) == "valid"
    assert list(measured_sets(other, "valid")) == ["valid", "ood"]
    bare = Dataset.from_parts(train=split.train, tests={"ood": split.parts["gamma2"]})
    assert reference_of(bare) is None


def test_users_are_drawn_whole() -> None:
    part = make_log().train
    limited = limit_users(part, 30, np.random.default_rng(1))
    kept = np.flatnonzero(limited.user_counts)
    assert len(kept) == 30
    assert np.array_equal(limited.user_counts[kept], part.user_counts[kept])
    assert limited.isin(part).all()
    assert limit_users(part, 200, np.random.default_rng(1)) is part
