"""Splits on logs small enough to say what must come out."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrarec.data.interactions import Interactions
from contrarec.data.splits import LeaveLastN, PopularityShift, Random, Temporal
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import ConfigError, DataError

ITEMS = "abcde"
HISTORIES = ["dacb", "ba", "eac", "ca", "b", "dbe"]  # of u1 to u6, in the order of time


def log_of(histories, times=None):
    """A log of users and their items; the time is the place in the history unless given."""
    pairs = [(u, ITEMS.index(item)) for u, items in enumerate(histories) for item in items]
    users, items = np.array(pairs).T
    when = [place for items in histories for place in range(len(items))] if times is None else times
    return Interactions.from_pairs(
        users,
        items,
        users=Vocabulary.of([f"u{u + 1}" for u in range(len(histories))]),
        items=Vocabulary.of(list(ITEMS)),
        time=np.array(when),
    )


def log_with_counts(counts, rng):
    """A log in which item i has counts[i] interactions, of random users."""
    n_users = max(max(counts), 1)
    pairs = [(u, i) for i, n in enumerate(counts) for u in rng.permutation(n_users)[:n]]
    users, items = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return Interactions.from_pairs(
        users, items, users=Vocabulary.of(range(n_users)), items=Vocabulary.of(range(len(counts)))
    )


def held_out(log, split, seed=0):
    taken = split.take(log, np.random.default_rng(seed))
    assert taken.dtype == bool
    assert taken.shape == (log.nnz,)
    users, items = log.users.take(log.rows[taken]), log.items.take(log.indices[taken])
    return {f"{user}{item}" for user, item in zip(users, items, strict=True)}


def test_random_takes_the_rounded_number():
    log = log_of(HISTORIES)  # 15 interactions
    for fraction, expected in ((0.1, 2), (0.5, 8), (0.3, 4), (0.01, 0)):
        assert len(held_out(log, Random(fraction=fraction))) == expected
    assert held_out(log, Random(fraction=0.5), 1) == held_out(log, Random(fraction=0.5), 1)
    assert held_out(log, Random(fraction=0.5), 1) != held_out(log, Random(fraction=0.5), 2)


def test_leave_last_is_the_picture_of_its_docstring():
    expected = {"u1b", "u2a", "u3c", "u4a", "u6e"}
    assert held_out(log_of(HISTORIES), LeaveLastN(n=1)) == expected


def test_leave_last_two_leaves_users_with_two_alone():
    assert held_out(log_of(HISTORIES), LeaveLastN(n=2)) == {
        "u1c",
        "u1b",
        "u3a",
        "u3c",
        "u6b",
        "u6e",
    }


def test_at_one_time_the_higher_item_is_the_later():
    log = log_of(["cab", "ac"], times=[7, 7, 7, 5, 4])
    assert held_out(log, LeaveLastN(n=1)) == {"u1c", "u2a"}


def test_temporal_keeps_everything_of_one_moment_together():
    log = log_of(["abc", "abd"], times=[1, 5, 5, 2, 5, 9])
    assert held_out(log, Temporal(at=5)) == {"u1b", "u1c", "u2b", "u2d"}
    assert held_out(log, Temporal(at=5.5)) == {"u2d"}
    assert held_out(log, Temporal(fraction=0.2)) == {"u2d"}  # at most 1.2 interactions
    assert held_out(log, Temporal(fraction=0.5)) == {"u2d"}  # 3 would tear moment 5 apart
    assert held_out(log, Temporal(fraction=0.7)) == {"u1b", "u1c", "u2b", "u2d"}
    assert held_out(log, Temporal(fraction=0.1)) == set()


def test_temporal_by_date():
    moments = np.array(["2024-05-30T23:00", "2024-05-31T00:00", "2024-06-01T00:00"], "M8[us]")
    log = log_of(["abc"], times=moments.astype(np.int64))
    assert held_out(log, Temporal(at="2024-05-31")) == {"u1b", "u1c"}
    assert held_out(log, Temporal(at="2024-05-31T01:00:00+02:00")) == {"u1a", "u1b", "u1c"}


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of a process cannot be set here")
def test_a_date_without_a_zone_is_in_utc_wherever_the_machine_is(monkeypatch):
    log = log_of(["ab"], times=[1_717_113_600_000_000 - 1, 1_717_113_600_000_000])  # midnight
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert held_out(log, Temporal(at="2024-05-31")) == {"u1b"}
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("split", [LeaveLastN(n=1), Temporal(fraction=0.1)])
def test_splits_by_time_need_times(split):
    log = Interactions.from_pairs(
        np.array([0]), np.array([0]), users=Vocabulary.of([1]), items=Vocabulary.of([1])
    )
    with pytest.raises(DataError, match="needs times, and the log has none"):
        split.take(log, np.random.default_rng(0))


def test_quotas_by_hand():
    # 60 interactions, half of them: 30. Popularity 20 > 15 > 14 > 11: groups {0, 3} and {2, 1}.
    counts = np.array([20, 11, 14, 15, 0])
    # γ = 4: an item of group 1 gets c, one of group 2 gets c/4; 2c + 2c/4 = 30, so c = 12.
    quotas = PopularityShift(gamma=4, fraction=0.5, n_groups=2).quotas(counts)
    assert quotas == pytest.approx([12, 3, 3, 12, 0])
    # γ = 1: 7.5 each.
    quotas = PopularityShift(gamma=1, fraction=0.5, n_groups=2).quotas(counts)
    assert quotas == pytest.approx([7.5, 7.5, 7.5, 7.5, 0])


def test_what_an_item_lacks_is_spread_over_the_others_in_proportion():
    counts = np.array([100, 100, 60, 40, 3, 1])  # 304; a quarter: 76
    # γ = 2, groups of two: c, c, c/√2, c/√2, c/2, c/2, where the last two can give 2 and 0.
    # So c (2 + 2/√2) = 74.
    c = 74 / (2 + np.sqrt(2))
    quotas = PopularityShift(gamma=2, fraction=0.25, n_groups=3).quotas(counts)
    assert quotas == pytest.approx([c, c, c / np.sqrt(2), c / np.sqrt(2), 2, 0])
    # Nothing kept back: they give 3 and 1, and c (2 + 2/√2) = 72.
    quotas = PopularityShift(gamma=2, fraction=0.25, n_groups=3, keep=0).quotas(counts)
    assert quotas[[0, 4, 5]] == pytest.approx([72 / (2 + np.sqrt(2)), 3, 1])


def test_a_log_with_too_little_gives_what_it_has_and_says_so():
    rng = np.random.default_rng(0)
    log = log_with_counts([5, 2, 1, 0], rng)
    split = PopularityShift(gamma=3, fraction=0.9, n_groups=2)
    taken = split.take(log, rng)
    assert log.select(taken).item_counts.tolist() == [4, 1, 0, 0]
    account = split.account(log, taken)
    assert "5 of 8 interactions where 7 were asked for" in account
    assert "3 of 3 items had less than their quota" in account


def test_the_account_counts_the_items_that_were_short():
    log = log_with_counts([100, 100, 60, 40, 3, 1], np.random.default_rng(0))
    split = PopularityShift(gamma=2, fraction=0.25, n_groups=3)
    account = split.account(log, split.take(log, np.random.default_rng(0)))
    assert account == (
        "PopularityShift(gamma=2.0, fraction=0.25, n_groups=3, keep=1), "
        "76 of 304 interactions, 2 of 6 items had less than their quota"
    )
    log = log_with_counts([100, 100, 60, 40, 30, 20], np.random.default_rng(0))
    assert split.account(log, split.take(log, np.random.default_rng(0))).endswith("interactions")


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=12),
    st.floats(0.3, 50),
    st.floats(0.05, 0.95),
    st.integers(1, 15),
    st.integers(0, 2),
    st.integers(0, 5),
)
def test_popularity_quotas_hold_for_any_log(counts, gamma, fraction, n_groups, keep, seed):
    counts = np.array(counts)
    split = PopularityShift(gamma=gamma, fraction=fraction, n_groups=n_groups, keep=keep)
    quotas = split.quotas(counts)
    available = np.where(counts > 0, np.maximum(counts - keep, 0), 0)
    asked = min(round(fraction * counts.sum()), available.sum())
    assert quotas.sum() == pytest.approx(asked, abs=1e-6)
    assert (quotas <= available + 1e-9).all()
    # Every item that is not used up stands on the curve c · γ^(−(g − 1)/(G − 1)).
    by_rank = np.argsort(-counts, kind="stable")[: (counts > 0).sum()]
    groups = np.array(
        [rank * min(n_groups, len(by_rank)) // len(by_rank) for rank in range(len(by_rank))]
    )
    curve = gamma ** (-groups / max(min(n_groups, len(by_rank)) - 1, 1))
    level = quotas[by_rank] / curve
    open_items = quotas[by_rank] < available[by_rank] - 1e-6
    if open_items.any():
        assert level[open_items] == pytest.approx(level[open_items][0])
        assert (level <= level[open_items][0] + 1e-6).all()
    # Rounding: down or up, and the sum exact.
    rng = np.random.default_rng(seed)
    log = log_with_counts(counts.tolist(), rng)
    part = log.select(split.take(log, rng))
    assert part.nnz == asked
    assert (np.abs(part.item_counts - quotas) < 1 + 1e-6).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Random(fraction=1.0), "`fraction` must be above 0 and below 1, got 1.0"),
        (lambda: LeaveLastN(n=0), "`n` must be at least 1, got 0"),
        (lambda: Temporal(), "`fraction` must be given, or else `at`"),
        (lambda: Temporal(fraction=0.1, at=3), "and not both"),
        (lambda: Temporal(at="soon"), "`at` must be a number or a date, got 'soon'"),
        (lambda: PopularityShift(gamma=0.0), "`gamma` must be positive and finite, got 0.0"),
        (lambda: PopularityShift(n_groups=0), "`n_groups` must be at least 1, got 0"),
        (lambda: PopularityShift(keep=-1), "`keep` must be non-negative, got -1"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_the_main_setting_needs_no_name():
    assert Random(0.2) == Random(fraction=0.2)
    assert LeaveLastN(3) == LeaveLastN(n=3)
    assert Temporal(0.2) == Temporal(fraction=0.2)
    assert PopularityShift(2) == PopularityShift(gamma=2.0)
