"""The Triton solver of the budget against the reference, which is tested against a root finder."""

import math

import numpy as np
import pytest
import torch

from contrarec.kernels.budget import budget_multiplier

# NumPy, which computes for the interpreter, warns of divisions by zero; a GPU does not.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def compare(g, eta, maximum, rtol=1e-6):
    before = g.clone()
    got = budget_multiplier(g, eta, maximum=maximum, backend="triton")
    want = budget_multiplier(g, eta, maximum=maximum, backend="reference")
    torch.testing.assert_close(got, want, rtol=rtol, atol=0, equal_nan=True)
    assert torch.equal(g.nan_to_num(), before.nan_to_num())


@pytest.mark.parametrize("maximum", [0.3, math.inf])
@pytest.mark.parametrize("eta", [1e-4, 0.5, 2.8])
def test_agrees_with_reference(eta, maximum, gpu):
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((4, 17))
    skewed = np.exp(8 * rng.random(17))  # one large entry among small ones
    rows = [normal[0], 1e-6 * normal[1], 1e6 * normal[2], np.round(normal[3]), skewed, 0 * skewed]
    compare(torch.from_numpy(np.stack(rows)).to(gpu), eta, maximum)


@pytest.mark.parametrize("eta", [2.1, 2.2])
def test_plateau(eta, gpu):
    """Between its two leaders and the rest KL stands still: Newton's steps leave the bracket."""
    row = [0.0, -1e-6] + [-1.0] * 15
    compare(torch.tensor([row], dtype=torch.float64, device=gpu), eta, math.inf, rtol=1e-5)


def test_nan_rows_and_infinite_rows(gpu):
    g = torch.tensor([[2.0, 2.0, 2.0], [1.0, math.nan, 0.0], [1.0, math.inf, 0.0]], device=gpu)
    for maximum, constant in ((math.inf, 1.0), (2.0, 2.0)):
        beta = budget_multiplier(g, 0.1, maximum=maximum, backend="triton")
        assert beta[0] == constant
        assert beta[1:].isnan().all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 1), (2, 1271), (0, 5), (3, 0)])
def test_odd_shapes(shape, gpu):
    g = torch.from_numpy(np.random.default_rng(1).standard_normal(shape)).to(gpu)
    compare(g, 0.1, 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_types_attached_and_non_contiguous(dtype, gpu):
    g = torch.from_numpy(np.random.default_rng(2).standard_normal((9, 4))).to(gpu, dtype).T[::2]
    beta = budget_multiplier(g.requires_grad_(), 0.05, backend="triton")
    assert (beta.dtype, beta.requires_grad) == (torch.float32, False)
    compare(g.detach(), 0.05, 1.0)


@pytest.mark.parametrize("maximum", [0.5, math.inf])
def test_entries_of_minus_infinity(maximum, gpu):
    g = torch.from_numpy(np.random.default_rng(3).standard_normal((4, 17))).to(gpu)
    g[0, ::2], g[1, 1:], g[2, :15] = -math.inf, -math.inf, -math.inf
    compare(g, 0.05, maximum)
