"""Baselines against naive loops in float64."""

import numpy as np
import pytest
import torch

from contrarec.baselines import ALS, EASE, ALSConfig, EASEConfig, ItemKNN, ItemKNNConfig
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary

RNG = np.random.default_rng(0)


def world(n_users: int, n_items: int, seed: int) -> tuple[np.ndarray, Interactions]:
    """A matrix of zeros and ones with popular and unpopular items, and its interactions."""
    rng = np.random.default_rng(seed)
    matrix = (rng.random((n_users, n_items)) < rng.random(n_items) * 0.6).astype(float)
    matrix[0], matrix[:, n_items // 2] = 0, 0  # a user and an item without any
    users, items = matrix.nonzero()
    return matrix, Interactions.from_pairs(
        users, items, users=Vocabulary.of(range(n_users)), items=Vocabulary.of(range(n_items))
    )


@pytest.mark.parametrize(("n_neighbours", "shrink"), [(1, 0.0), (3, 2.5), (50, 10.0)])
@pytest.mark.parametrize("shape", [(41, 13), (7, 29)])
def test_item_knn(shape, n_neighbours, shrink):
    matrix, train = world(*shape, seed=1)
    n_users, n_items = shape
    near = np.zeros((n_items, n_items))
    for i in range(n_items):
        for j in range(n_items):
            if i != j and matrix[:, i].sum() and matrix[:, j].sum():
                common = sum(matrix[u, i] * matrix[u, j] for u in range(n_users))
                norms = np.sqrt(matrix[:, i].sum()) * np.sqrt(matrix[:, j].sum())
                near[i, j] = common / (norms + shrink)
        kept = sorted(range(n_items), key=lambda j: (-near[i, j], j))[:n_neighbours]
        near[i, [j for j in range(n_items) if j not in kept]] = 0
    fitted = ItemKNN.fit(train, ItemKNNConfig(n_neighbours=n_neighbours, shrink=shrink), RNG)
    users = RNG.permutation(n_users)
    expected = [[sum(matrix[u] * near[:, j]) for j in range(n_items)] for u in users]
    np.testing.assert_allclose(fitted.scorer()(users).numpy(), expected, rtol=1e-5, atol=1e-6)
    found = fitted.similar()(np.arange(n_items)).numpy()
    np.testing.assert_allclose(np.where(found > -np.inf, found, 0), near, rtol=1e-5)


@pytest.mark.parametrize("lam", [0.5, 20.0])
@pytest.mark.parametrize("shape", [(41, 13), (7, 29)])
class TestEASE:
    def test_each_column_is_a_ridge_regression_on_the_others(self, shape, lam):
        matrix, train = world(*shape, seed=2)
        weights = EASE.fit(train, EASEConfig(lam=lam), RNG).tensors["weights"].numpy()
        for j in range(shape[1]):
            others = [i for i in range(shape[1]) if i != j]
            x = matrix[:, others]
            ridge = np.linalg.solve(x.T @ x + lam * np.eye(len(others)), x.T @ matrix[:, j])
            np.testing.assert_allclose(weights[others, j], ridge, rtol=1e-4, atol=1e-6)
            assert weights[j, j] == 0

    def test_the_lagrangian_is_stationary(self, shape, lam):
        """Of ½‖X − XB‖² + ½ lam ‖B‖² + γᵀ diag(B): its gradient in B vanishes off the diagonal."""
        matrix, train = world(*shape, seed=3)
        weights = EASE.fit(train, EASEConfig(lam=lam), RNG).tensors["weights"].double().numpy()
        gradient = -matrix.T @ (matrix - matrix @ weights) + lam * weights
        off = ~np.eye(shape[1], dtype=bool)
        assert np.abs(gradient[off]).max() < 1e-4
        assert np.abs(np.diag(gradient)).max() > 0.1  # where the constraint holds it back
        assert (np.diag(weights) == 0).all()

    def test_scores(self, shape, lam):
        matrix, train = world(*shape, seed=4)
        fitted = EASE.fit(train, EASEConfig(lam=lam), RNG)
        weights = fitted.tensors["weights"].numpy()
        users = RNG.permutation(shape[0])
        np.testing.assert_allclose(
            fitted.scorer()(users).numpy(), matrix[users] @ weights, rtol=1e-5, atol=1e-6
        )


def half_step(matrix: np.ndarray, vectors: np.ndarray, alpha: float, reg: float) -> np.ndarray:
    """Solve for each row over all columns, in float64."""
    solved = []
    for row in matrix:
        system, right = reg * np.eye(vectors.shape[1]), np.zeros(vectors.shape[1])
        for value, vector in zip(row, vectors, strict=True):
            confidence = 1 + alpha * value
            system += confidence * np.outer(vector, vector)
            right += confidence * value * vector
        solved.append(np.linalg.solve(system, right))
    return np.array(solved)


class TestALS:
    def test_users_are_solved_for(self):
        matrix, train = world(41, 13, seed=5)
        rng = np.random.default_rng(6)
        items = rng.normal(size=(13, 5)).astype(np.float32)
        tensors = {"user_vectors": torch.zeros(41, 5), "item_vectors": torch.from_numpy(items)}
        fitted = ALS(tensors, train, ALSConfig(factors=5, alpha=7, reg=0.3))
        expected = half_step(matrix, items.astype(float), 7, 0.3) @ items.T
        np.testing.assert_allclose(
            fitted.fold_in(train)(np.arange(41)).numpy(), expected, rtol=1e-4, atol=1e-5
        )

    @pytest.mark.usefixtures("implicit")
    def test_the_library_comes_to_the_same_fixed_point(self):
        """At the end each table is the solution for the other: alpha and reg mean what they say."""
        matrix, train = world(41, 13, seed=7)
        config = ALSConfig(factors=3, alpha=4, reg=2, iterations=500)
        tensors = ALS.fit(train, config, np.random.default_rng(8)).tensors
        users, items = (tensors[name].double().numpy() for name in ALS.rows)
        np.testing.assert_allclose(half_step(matrix, items, 4, 2), users, atol=2e-3)
        np.testing.assert_allclose(half_step(matrix.T, users, 4, 2), items, atol=2e-3)
        assert np.abs(users).max() > 0.1
