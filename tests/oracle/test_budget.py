"""`budget_multiplier` against scipy's root finder on a naive divergence: both twins."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from contrarec.errors import BackendError, ConfigError
from contrarec.kernels import dispatch
from contrarec.kernels.budget import budget_multiplier

BACKENDS = ["reference", "numba"]


def naive_kl(row, beta):
    top = max(row)
    weights = [math.exp(beta * (x - top)) for x in row]
    total = math.fsum(weights)
    return math.fsum(w / total * math.log(w / total * len(row)) for w in weights if w > 0)


def naive_beta(row, eta, maximum):
    """The β by bracketing; None where no finite β spends the budget."""
    if math.isfinite(maximum) and naive_kl(row, maximum) <= eta:
        return maximum
    ties = sum(x == max(row) for x in row)
    if eta >= math.log(len(row) / ties):
        return None
    high = 1.0
    while naive_kl(row, high) < eta:
        high *= 2
    return brentq(lambda beta: naive_kl(row, beta) - eta, 0.0, high, xtol=1e-300, rtol=1e-14)


def logits(n_rows, n_neg, *, kind="normal", seed=0):
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal((n_rows, n_neg))
    if kind == "skewed":  # one large entry among small ones, as of the closed form at small τ
        return np.exp(8 * rng.random((n_rows, n_neg)))
    if kind == "tied":
        return np.round(normal)
    scale = {"normal": 1.0, "tiny": 1e-6, "huge": 1e6}[kind]
    return scale * normal


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("maximum", [1.0, 0.3, math.inf])
@pytest.mark.parametrize("eta", [1e-4, 0.02, 0.5, 3.0])
@pytest.mark.parametrize("kind", ["normal", "skewed", "tied", "tiny", "huge"])
def test_agrees_with_root_finder(kind, eta, maximum, backend):
    g = logits(6, 17, kind=kind)
    beta = budget_multiplier(torch.from_numpy(g), eta, maximum=maximum, backend=backend)
    for row, got in zip(g.tolist(), beta.tolist(), strict=True):
        want = naive_beta(row, eta, maximum)
        if want is None:  # saturated: the divergence is the largest there is
            ties = sum(x == max(row) for x in row)
            assert naive_kl(row, got) == pytest.approx(math.log(len(row) / ties), rel=1e-12)
            assert math.isfinite(got)
        elif want == maximum:
            assert got == maximum
        else:
            assert got == pytest.approx(want, rel=1e-6)
            assert naive_kl(row, got) == pytest.approx(eta, rel=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("fraction", [0.9, 0.999, 1 - 1e-7])
def test_budget_just_below_the_largest_divergence(fraction, backend):
    g = logits(5, 8, seed=3)
    eta = fraction * math.log(8)
    beta = budget_multiplier(torch.from_numpy(g), eta, maximum=math.inf, backend=backend)
    for row, got in zip(g.tolist(), beta.tolist(), strict=True):
        assert naive_kl(row, got) == pytest.approx(eta, rel=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("eta", [1.0, 2.1, 2.2, 2.5])
def test_plateau(eta, backend):
    """Between its two leaders and the rest KL stands still, and Newton's steps leave the bracket.

    At `log(17 / 2) = 2.14` the two share all weight; more takes a β a million times larger.
    """
    row = [0.0, -1e-6] + [-1.0] * 15
    g = torch.tensor([row], dtype=torch.float64)
    beta = budget_multiplier(g, eta, maximum=math.inf, backend=backend).item()
    assert naive_kl(row, beta) == pytest.approx(eta, rel=1e-6)
    assert (beta > 1e5) == (eta > 2.14)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (7, 1), (41, 1271), (0, 5), (3, 0)])
@pytest.mark.parametrize("maximum", [1.0, math.inf])
def test_twins_agree_on_odd_shapes(shape, maximum):
    g = torch.from_numpy(logits(*shape))
    got = budget_multiplier(g, 0.1, maximum=maximum, backend="numba")
    want = budget_multiplier(g, 0.1, maximum=maximum, backend="reference")
    assert got.shape == (shape[0],)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_entries_by_hand(backend):
    # p = (3/4, 1/4) when β·gap = log 3; KL = log 2 + 3/4·log(3/4) + 1/4·log(1/4)
    eta = math.log(2) + 0.75 * math.log(0.75) + 0.25 * math.log(0.25)
    g = torch.tensor([[5.0, 3.0], [0.0, -9.0], [0.0, 0.5]], dtype=torch.float64)
    beta = budget_multiplier(g, eta, backend=backend)
    # the third row at β = 1 stays within
    expected = torch.tensor([math.log(3) / 2, math.log(3) / 9, 1.0], dtype=torch.float64)
    torch.testing.assert_close(beta, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_constant_rows_and_nan_rows(backend):
    g = torch.tensor([[2.0, 2.0, 2.0], [1.0, math.nan, 0.0], [1.0, math.inf, 0.0]])
    free = budget_multiplier(g, 0.1, maximum=math.inf, backend=backend)
    bound = budget_multiplier(g, 0.1, maximum=2.0, backend=backend)
    assert free[0] == 1
    assert bound[0] == 2
    assert free[1:].isnan().all()  # a diverged model must be noticed
    assert bound[1:].isnan().all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_types(dtype, backend):
    g = torch.from_numpy(logits(9, 33)).to(dtype)
    before = g.clone()
    beta = budget_multiplier(g, 0.05, backend=backend)
    want = budget_multiplier(g.double(), 0.05, backend=backend)
    assert beta.dtype == torch.float32
    torch.testing.assert_close(beta.double(), want, rtol=1e-6, atol=0)
    assert torch.equal(g, before)


@pytest.mark.parametrize("backend", BACKENDS)
def test_non_contiguous_and_attached(backend):
    g = torch.from_numpy(logits(12, 10)).T[::2].requires_grad_()
    beta = budget_multiplier(g, 0.05, backend=backend)
    want = budget_multiplier(g.detach().clone().contiguous(), 0.05, backend=backend)
    torch.testing.assert_close(beta, want, rtol=1e-9, atol=0)
    assert not beta.requires_grad


def test_number_of_threads_changes_nothing():
    g = torch.from_numpy(logits(300, 64))
    n = torch.get_num_threads()
    results = []
    for threads in (1, 2):
        dispatch.set_threads(threads)
        results.append(budget_multiplier(g, 0.05, backend="numba"))
    dispatch.set_threads(n)
    assert torch.equal(*results)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eta": 0.0}, "`eta` must be positive, got 0.0."),
        ({"eta": math.nan}, "`eta` must be positive, got nan."),
        ({"eta": 0.1, "maximum": 0.0}, "`maximum` must be positive, got 0.0."),
        ({"eta": 0.1, "g": torch.zeros(3)}, r"`g` must be \[B, N\] floating point, got \(3,\)"),
        ({"eta": 0.1, "g": torch.zeros(3, 2).long()}, "got .* torch.int64"),
        ({"eta": 0.1, "backend": "nunba"}, "did you mean 'numba'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        budget_multiplier(**{"g": torch.zeros(2, 2), **arguments})


def test_numba_asked_for_and_absent(monkeypatch):
    monkeypatch.setattr(dispatch, "HAS_NUMBA", False)
    with pytest.raises(BackendError, match="pip install numba"):
        budget_multiplier(torch.zeros(2, 2), 0.1, backend="numba")


@pytest.mark.parametrize("maximum", [0.5, 1.0, math.inf])
@pytest.mark.parametrize("backend", BACKENDS)
def test_entries_of_minus_infinity_are_left_out(backend, maximum):
    g = torch.from_numpy(logits(4, 9))
    out = torch.tensor([[0, 1] * 4 + [1], [1] * 8 + [0], [0] * 9, [1] * 7 + [0, 0]]).bool()
    beta = budget_multiplier(g.masked_fill(out, -math.inf), 0.05, maximum=maximum, backend=backend)
    for b in range(4):
        alone = budget_multiplier(g[b : b + 1, ~out[b]], 0.05, maximum=maximum, backend="reference")
        torch.testing.assert_close(beta[b : b + 1], alone, rtol=1e-6, atol=0)
    nothing = torch.full((1, 3), -math.inf)
    assert budget_multiplier(nothing, 0.05, maximum=maximum, backend=backend).isfinite()
