"""Estimates and tests over several sets: against loops, other tests of ours, and by hand."""

from itertools import product

import numpy as np
import pytest

from contrarec.audit.contrast import (
    FLIPS,
    KEPT,
    SHIFTED,
    Column,
    Difference,
    UserTable,
    set_figures,
)
from contrarec.evaluation.compare import flipped_sums, holm, paired_test, resampled_means

SETS = ("id", "far", "farther")


def random_values(seed: int, n: int = 60) -> tuple[dict[str, np.ndarray], dict[Column, np.ndarray]]:
    """Three methods on three sets of different users; the second loses most."""
    rng = np.random.default_rng(seed)
    users = {name: np.sort(rng.choice(n, 40, replace=False)) for name in SETS}
    values = {}
    for method, lost in (("a", 0.1), ("b", 0.4), ("c", 0.1)):
        for place, name in enumerate(SETS):
            noise = rng.uniform(0, 0.3, len(users[name]))
            values[method, name, "recall@20"] = 0.6 - lost * place * 0.6 + noise
    return users, values


def test_estimates_are_those_of_the_columns() -> None:
    users, values = random_values(0)
    table = UserTable(users, values)
    for column, vector in values.items():
        found = table.estimate([column])
        assert found.mean == pytest.approx(vector.mean())
        half = 1.96 * vector.std(ddof=1) / np.sqrt(len(vector))  # near the bootstrap's
        assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.15)
    assert ("a", "id", "ndcg@20") not in table


def test_a_figure_of_several_sets_by_hand() -> None:
    users = {"id": np.array([0, 1]), "far": np.array([1, 2]), "farther": np.array([5])}
    values = {
        ("a", "id", "m"): np.array([0.4, 0.8]),
        ("a", "far", "m"): np.array([0.1, 0.3]),
        ("a", "farther", "m"): np.array([0.4]),
    }
    table = UserTable(users, values)
    assert table.table.shape == (4, 3)  # users 0, 1, 2 and 5
    figures = set_figures(SETS, "id", SETS[1:])
    columns = [("a", name, "m") for name in SETS]
    assert table.estimate(columns, figures[SHIFTED]).mean == pytest.approx((0.2 + 0.4) / 2)
    assert table.estimate(columns, figures[KEPT]).mean == pytest.approx(0.3 / 0.6)
    assert list(set_figures(SETS, None, SETS[1:])) == [*SETS, SHIFTED]
    assert list(set_figures(("id", "far"), "id", ("far",))) == ["id", "far", KEPT]


def test_nothing_is_kept_of_nothing() -> None:
    kept = set_figures(("id", "far"), "id", ("far",))[KEPT]
    assert np.isnan(kept(np.array([0.0, 0.3])))
    users = {"id": np.array([0, 1]), "far": np.array([0, 1])}
    zero, some = np.zeros(2), np.array([0.5, 0.7])
    table = UserTable(
        users,
        {("a", "id", "m"): zero, ("a", "far", "m"): some,
         ("b", "id", "m"): some, ("b", "far", "m"): some},
    )  # fmt: skip
    found = table.differences(("a", "b"), "m", ("id", "far"), "id", ("far",))
    (difference,) = [f for f in found if f.where == KEPT]
    assert np.isnan(difference.difference)
    assert difference.p == difference.p_holm == 1


def test_a_figure_that_counts_nobody_is_left_out() -> None:
    users = {"id": np.array([0, 1])}
    table = UserTable(
        users,
        {("a", "id", "m"): np.array([1.0, np.nan]), ("a", "id", "none"): np.full(2, np.nan)},
    )
    assert ("a", "id", "none") not in table
    assert table.estimate([("a", "id", "m")]).mean == 1


def differences_of(seed: int) -> dict[tuple[str, str, str], Difference]:
    users, values = random_values(seed)
    table = UserTable(users, values)
    found = table.differences(("a", "b", "c"), "recall@20", SETS, "id", SETS[1:])
    return {(f.method, f.against, f.where): f for f in found}


def test_a_single_set_is_as_in_a_paired_test() -> None:
    _, values = random_values(2)
    found = differences_of(2)
    for method, against in (("b", "a"), ("c", "a"), ("c", "b")):
        for name in SETS:
            ours = found[method, against, name]
            one, other = (values[m, name, "recall@20"] for m in (method, against))
            theirs = paired_test(one, other, n_flips=20_000, rng=9)
            assert ours.difference == pytest.approx(theirs.difference)
            noise = 5 * np.sqrt(0.25 / FLIPS)
            assert ours.p == pytest.approx(theirs.p_value, abs=noise)
            width = theirs.high - theirs.low
            assert ours.low == pytest.approx(theirs.low, abs=0.15 * width)
            assert ours.high == pytest.approx(theirs.high, abs=0.15 * width)


def test_p_of_what_is_kept_against_all_patterns() -> None:
    """Six users: all 2⁶ ways in which their values of the two methods change places."""
    rng = np.random.default_rng(4)
    users = {"id": np.array([0, 1, 2, 3]), "far": np.array([2, 3, 4, 5])}
    names = ("id", "far")
    values = {(m, name, "m"): rng.uniform(0.1, 1, 4) for m in "ab" for name in names}
    table = UserTable(users, values)
    (found,) = [
        f for f in table.differences(("a", "b"), "m", names, "id", ("far",)) if f.where == KEPT
    ]

    def kept(pick: dict[str, list[float]]) -> float:
        return float(np.mean(pick["far"]) / np.mean(pick["id"]))

    sizes = []
    for swaps in product([False, True], repeat=6):
        shown = {
            method: {
                name: [
                    float(
                        values[
                            "ab"["ba".index(method) if swaps[user] else "ab".index(method)],
                            name,
                            "m",
                        ][row]
                    )
                    for row, user in enumerate(users[name])
                ]
                for name in names
            }
            for method in "ab"
        }
        sizes.append(kept(shown["b"]) - kept(shown["a"]))
    exact = np.mean(np.abs(sizes) >= abs(sizes[0]) - 1e-12)
    assert found.difference == pytest.approx(sizes[0])
    assert found.p == pytest.approx(exact, abs=5 * np.sqrt(exact * (1 - exact) / FLIPS))


def test_what_loses_more_is_found_and_the_rest_is_not() -> None:
    found = differences_of(5)
    assert found["b", "a", KEPT].p_holm < 0.01 > found["b", "a", SHIFTED].p_holm
    assert found["b", "a", KEPT].high < 0
    assert found["c", "a", KEPT].p_holm > 0.05 < found["b", "a", "id"].p_holm


def test_families_of_the_correction() -> None:
    found = differences_of(6)
    for family in ((*SETS,), (SHIFTED,), (KEPT,)):
        ours = [f for f in found.values() if f.where in family]
        assert len(ours) == 3 * len(family)
        assert [f.p_holm for f in ours] == pytest.approx(list(holm([f.p for f in ours])))


def test_the_other_side_of_a_difference() -> None:
    found = differences_of(1)["b", "a", "far"]
    other = found.reversed()
    assert (other.method, other.against, other.p) == ("a", "b", found.p)
    assert (other.low, other.difference, other.high) == (-found.high, -found.difference, -found.low)


@pytest.mark.parametrize("n", [3, 32, 45])
def test_flipped_sums_are_sums_of_signed_rows(n: int) -> None:
    rows = np.random.default_rng(0).normal(size=(n, 2))
    sums = flipped_sums(rows, n_flips=500, rng=1)
    # the same signs in both columns: a column's sum of a constant gives the signs' sum
    both = flipped_sums(np.column_stack([rows[:, 0], -2 * rows[:, 0]]), n_flips=500, rng=1)
    assert both[:, 1] == pytest.approx(-2 * both[:, 0])
    assert both[:, 0] == pytest.approx(sums[:, 0])
    if n == 3:
        possible = [sum(s * x for s, x in zip(signs, rows[:, 1], strict=True))
                    for signs in product([-1, 1], repeat=3)]  # fmt: skip
        nearest = np.abs(sums[:, 1, None] - np.array(possible)).min(1)
        assert nearest.max() < 1e-12
        assert len(np.unique(sums[:, 1].round(9))) == 8  # all of them in 500 draws
    spread = np.sqrt((rows**2).sum(0))
    assert np.abs(sums.mean(0) / spread).max() < 5 / np.sqrt(500)


def test_resampled_means_share_their_draws() -> None:
    values = np.random.default_rng(0).normal(size=30)
    means = resampled_means(np.column_stack([values, 3 * values + 1]), n_resamples=50)
    assert means[:, 1] == pytest.approx(3 * means[:, 0] + 1)
