"""The KL ball: its supremum is the dual's minimum, and what an independent optimiser finds."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from contrarec.audit.dro import dual_bound, measure_dro, worst_mean
from contrarec.errors import ConfigError
from planted import interactions, planted

scores = st.lists(st.floats(-1, 1), min_size=2, max_size=6)
radii = st.floats(1e-3, 2.0)


def exp_scores(row: list[float], tau: float) -> torch.Tensor:
    return torch.tensor([row], dtype=torch.float64).div(tau).exp()


def optimised(values: np.ndarray, eta: float) -> float:
    """The largest mean within the ball, by sequential quadratic programming from several starts."""
    n, scale = len(values), np.ptp(values) or 1.0

    def kl(p: np.ndarray) -> float:
        q = np.clip(p, 1e-300, None)
        return float((p * np.log(n * q)).sum())

    best = values.mean()
    starts = [np.full(n, 1 / n)]
    for j in range(n):
        start = np.full(n, 0.5 / n)
        start[j] += 0.5
        starts.append(start)
    for start in starts:
        done = minimize(
            lambda p: -(p @ values) / scale,
            start,
            jac=lambda _: -values / scale,
            bounds=[(0, 1)] * n,
            constraints=[
                {"type": "eq", "fun": lambda p: p.sum() - 1},
                {"type": "ineq", "fun": lambda p: eta - kl(p)},
            ],
            method="SLSQP",
            options={"maxiter": 300, "ftol": 1e-13},
        )
        feasible = abs(done.x.sum() - 1) < 1e-8 and kl(done.x) <= eta + 1e-8
        if feasible:
            best = max(best, float(done.x @ values))
    return best


@settings(max_examples=40, deadline=None)
@given(row=scores, eta=radii, tau=st.sampled_from([0.5, 1.0]))
def test_the_supremum_is_what_an_optimiser_finds(row: list[float], eta: float, tau: float) -> None:
    values = exp_scores(row, tau)
    found = float(worst_mean(values, eta)[0])
    assert found == pytest.approx(optimised(values[0].numpy(), eta), rel=2e-5)


@settings(max_examples=200, deadline=None)
@given(row=scores, eta=radii, tau=st.floats(0.1, 2), log_lam=st.floats(-8, 8))
def test_the_dual_is_above_whatever_lambda_and_touches_at_the_tilt(
    row: list[float], eta: float, tau: float, log_lam: float
) -> None:
    values = exp_scores(row, tau)
    mean, lam = worst_mean(values, eta)
    bound = dual_bound(values, eta, torch.tensor([math.exp(log_lam)], dtype=torch.float64))
    assert float(bound) >= float(mean) * (1 - 1e-9)
    if math.isfinite(float(lam)):
        assert float(dual_bound(values, eta, lam)) == pytest.approx(float(mean), rel=1e-5)


@settings(max_examples=200, deadline=None)
@given(row=scores, weights=st.lists(st.floats(0, 1), min_size=6, max_size=6), tau=st.floats(0.1, 2))
def test_no_weights_in_the_ball_have_a_larger_mean(
    row: list[float], weights: list[float], tau: float
) -> None:
    values = exp_scores(row, tau)[0]
    p = torch.tensor(weights[: len(row)], dtype=torch.float64) + 1e-3
    p = p / p.sum()
    kl = float((p * (len(row) * p).log()).sum())
    if kl > 1e-6:
        assert float(worst_mean(values[None], kl)[0]) >= float(p @ values) * (1 - 1e-6)


def test_limits() -> None:
    values = torch.tensor([[1.0, 2.0, 2.0, 5.0], [3.0, 3.0, 3.0, 3.0], [1.0, 2.0, 5.0, 5.0]])
    mean, lam = worst_mean(values, 10.0)  # more than log 4: all weight on the largest
    torch.testing.assert_close(mean, torch.tensor([5.0, 3.0, 5.0], dtype=torch.float64))
    assert lam.tolist() == [0.0, math.inf, 0.0]
    small, _ = worst_mean(values, 1e-10)
    torch.testing.assert_close(small, values.mean(1).double(), rtol=1e-4, atol=0)


class TestMeasured:
    history = interactions([(u, i) for u in range(6) for i in range(u % 3, 9, 4)], 6, 12)

    def measure(self, **about):
        rng = np.random.default_rng(0)
        logits = rng.standard_normal((6, 12)).astype(np.float32)
        vectors = tuple(rng.standard_normal((n, 3)).astype(np.float32) for n in (6, 12))
        view = planted(self.history, logits, vectors, tau=0.5, k_neg=4.0)
        return measure_dro(view, self.history, n_neg=5, etas=(0.01, 0.1, 1.0), **about)

    def test_the_curve_rises_and_is_above_the_uniform_loss(self) -> None:
        found = self.measure()
        losses = [found["uniform"]["loss"], *(line["loss"] for line in found["curve"])]
        assert losses == sorted(losses)
        assert found["rows"] == 6
        assert found["dual_gap"] < 1e-6
        assert found["achieved"]["loss"] <= found["worst_at_kl"]["loss"]
        assert found["share"] < 1

    def test_the_worst_answer_does_all_the_harm_that_its_kl_allows(self) -> None:
        rng = np.random.default_rng(1)
        vectors = tuple(rng.standard_normal((n, 3)).astype(np.float32) for n in (6, 12))
        view = planted(self.history, None, vectors, loss="advinfonce-closed", eta=0.2)
        found = measure_dro(view, self.history, n_neg=5, etas=(0.2,))
        assert found["achieved"]["kl"] == pytest.approx(0.2, rel=1e-4)
        assert found["share"] == pytest.approx(1, rel=1e-3)
        assert found["curve"][0]["loss"] == pytest.approx(found["achieved"]["loss"], rel=1e-4)

    def test_the_uniform_loss_by_hand(self) -> None:
        """One user, one positive, all vectors alike: −log 1 / (1 + k_neg·N) with any weights."""
        history = interactions([(0, 0)], 1, 4)
        ones = np.ones((1, 2), np.float32), np.ones((4, 2), np.float32)
        view = planted(history, np.zeros((1, 4), np.float32), ones, tau=0.5, k_neg=2.0)
        found = measure_dro(view, history, n_neg=3, etas=(0.1,))
        for part in (found["uniform"], found["achieved"], found["curve"][0]):
            assert part["loss"] == pytest.approx(math.log(1 + 2 * 3), rel=1e-5)

    def test_refusals(self) -> None:
        view = planted(self.history, loss="infonce")
        with pytest.raises(ConfigError, match="InfoNCE has no adversary"):
            measure_dro(view, self.history, n_neg=5)
        with pytest.raises(ConfigError, match="`etas` must be positive"):
            measure_dro(view, self.history, n_neg=5, etas=(0.1, 0.0))
