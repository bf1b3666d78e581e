"""Hardness and geometry against naive loops, on planted models."""

import math

import numpy as np
import pytest
import torch

from contrarec.audit.geometry import main_plane, measure_geometry, plane_rows
from contrarec.audit.hardness import list_items, list_pairs, measure_hardness
from contrarec.audit.pairs import Pairs
from contrarec.evaluation.protocol import GROUPS, popularity_groups
from planted import interactions, planted

HISTORY = interactions(
    [(u, i) for u in range(5) for i in range(7) if (u * i + i) % 3 == 1 or (i == 0 and u < 4)], 5, 8
)
LOGITS = np.random.default_rng(5).standard_normal((5, 8)).astype(np.float32)


def naive_deltas() -> dict[tuple[int, int], float]:
    found = {}
    for u in range(5):
        seen = set(HISTORY.indices[HISTORY.indptr[u] : HISTORY.indptr[u + 1]].tolist())
        mine = [i for i in range(8) if i not in seen]
        total = math.fsum(math.exp(LOGITS[u, i]) for i in mine)
        for i in mine:
            found[u, i] = math.log(len(mine) * math.exp(LOGITS[u, i]) / total)
    return found


def measured():
    pairs = Pairs.draw(np.arange(5), HISTORY, limit=5, seed=0)
    return measure_hardness(planted(HISTORY, LOGITS), pairs, HISTORY.item_counts)


def test_figures_per_popularity_group() -> None:
    naive, groups = naive_deltas(), popularity_groups(HISTORY.item_counts)
    found = measured().to_dict()
    assert found["pairs"] == len(naive)
    for number, name in enumerate(GROUPS):
        values = [delta for (_, i), delta in naive.items() if groups[i] == number]
        n_of = {u: sum(v == u for v, _ in naive) for u in range(5)}
        figures = found["groups"][name]
        assert figures["pairs"] == len(values)
        assert figures["mean"] == pytest.approx(np.mean(values), abs=1e-6)
        assert figures["sd"] == pytest.approx(np.std(values), abs=1e-6)
        assert figures["median"] == pytest.approx(np.median(values), abs=1e-6)
        assert figures["below_zero"] == np.mean(np.array(values) < 0)
        weight = sum(math.exp(d) / n_of[u] for (u, i), d in naive.items() if groups[i] == number)
        uniform = sum(1 / n_of[u] for u, i in naive if groups[i] == number)
        assert figures["weight"] == pytest.approx(weight / 5, rel=1e-5)
        assert figures["uniform"] == pytest.approx(uniform / 5)


def test_kl_per_user() -> None:
    naive = naive_deltas()
    for user, kl in enumerate(measured().kl):
        mine = [delta for (u, _), delta in naive.items() if u == user]
        expected = math.fsum(math.exp(d) / len(mine) * d for d in mine)
        assert kl == pytest.approx(expected, rel=1e-4)


def test_lists_by_the_users_own_ids() -> None:
    naive = naive_deltas()
    means = {
        i: np.mean([d for (_, j), d in naive.items() if j == i])
        for i in {item for _, item in naive}
    }
    listed = list_items(measured(), HISTORY, 3)
    best = sorted(means, key=lambda i: -means[i])
    assert [row["item_id"] for row in listed["hardest"]] == [f"i{i}" for i in best[:3]]
    least = [f"i{i}" for i in best[::-1][:3] if means[i] < 0]
    assert [row["item_id"] for row in listed["judged_false"]] == least
    top = listed["hardest"][0]
    assert top["delta"] == pytest.approx(means[best[0]], abs=1e-6)
    assert top["train_count"] == HISTORY.item_counts[best[0]]

    (row,) = list_pairs(planted(HISTORY, LOGITS), np.array([2]), HISTORY, 20)
    mine = sorted((i for u, i in naive if u == 2), key=lambda i: -naive[2, i])
    assert row["user_id"] == "u2"
    assert [item["item_id"] for item in row["hardest"]] == [f"i{i}" for i in mine]
    below = [f"i{i}" for i in mine[::-1] if naive[2, i] < 0]
    assert [item["item_id"] for item in row["judged_false"]] == below


def test_a_budget_holds_over_the_candidates() -> None:
    view = planted(HISTORY, 9 * LOGITS, eta=0.1)
    pairs = Pairs.draw(np.arange(5), HISTORY, limit=5, seed=0)
    found = measure_hardness(view, pairs, HISTORY.item_counts)
    np.testing.assert_allclose(found.kl, 0.1, rtol=1e-3)


class TestGeometry:
    rng = np.random.default_rng(7)
    vectors = (
        rng.standard_normal((5, 3)).astype(np.float32),
        (rng.standard_normal((8, 3)) * [3, 1, 0.2]).astype(np.float32),
    )

    def test_alignment_and_uniformity(self) -> None:
        users, items = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in self.vectors)
        found = measure_geometry(planted(HISTORY, None, self.vectors), HISTORY)
        distances = [
            ((users[u] - items[i]) ** 2).sum()
            for u, i in zip(HISTORY.rows, HISTORY.indices, strict=True)
        ]
        assert found["alignment"] == pytest.approx(np.mean(distances), rel=1e-5)
        for name, x, counts in (
            ("users", users, HISTORY.user_counts),
            ("items", items, HISTORY.item_counts),
        ):
            active = [n for n in range(len(x)) if counts[n]]
            potentials = [
                math.exp(-2 * ((x[a] - x[b]) ** 2).sum()) for a in active for b in active if a != b
            ]
            expected = math.log(np.mean(potentials))
            assert found[f"uniformity_{name}"] == pytest.approx(expected, rel=1e-5)

    def test_the_plane_is_numpys_singular_value_decomposition(self) -> None:
        plane = main_plane(planted(HISTORY, None, self.vectors), HISTORY)
        active = np.flatnonzero(HISTORY.item_counts)
        x = self.vectors[1][active].astype(float)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
        assert plane.items.tolist() == active.tolist()
        np.testing.assert_allclose(plane.explained, (s**2 / (s**2).sum())[:2], rtol=1e-5)
        for column in range(2):
            expected = u[:, column] * s[column]
            ours = plane.points[:, column]
            sign = np.sign(ours @ expected)
            np.testing.assert_allclose(ours, sign * expected, atol=1e-5)
            assert np.corrcoef(ours, HISTORY.item_counts[active])[0, 1] > -0.3

    def test_points_have_ids_and_groups(self) -> None:
        rows = plane_rows(main_plane(planted(HISTORY, None, self.vectors), HISTORY), HISTORY)
        assert [row["item_id"] for row in rows] == [
            f"i{i}" for i in np.flatnonzero(HISTORY.item_counts)
        ]
        assert {row["group"] for row in rows} <= set(GROUPS)

    def test_equal_popularity_has_no_correlation(self) -> None:
        history = interactions([(0, 0), (1, 1), (2, 2)], 3, 3)
        vectors = tuple(torch.eye(3).numpy() for _ in range(2))
        assert main_plane(planted(history, None, vectors), history).correlation == (0.0, 0.0)
