"""Relations between the margin losses, the variants of the softmax loss, InfoNCE and BPR."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrarec.losses.functional import bpr, bsl, ccl, hcl, infonce, mmcl, psl, simce

B, N = 6, 5
SEEDS = st.integers(0, 10_000)
TAUS = st.sampled_from([0.05, 0.28, 1.0, 2.0])
ACTIVATIONS = ["tanh", "atan", "relu"]

quick = settings(max_examples=10, deadline=None)


def draw(seed, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    pos = 2 * torch.rand(B, generator=g, dtype=dtype) - 1
    neg = 2 * torch.rand(B, N, generator=g, dtype=dtype) - 1
    return pos, neg


@quick
@given(SEEDS, TAUS)
def test_hcl_without_its_terms_is_infonce(seed, tau):
    pos, neg = draw(seed)
    got = hcl(pos, neg, tau=tau, beta=0, tau_plus=0)
    torch.testing.assert_close(got, infonce(pos, neg, tau=tau))


@quick
@given(SEEDS, TAUS, st.floats(-3, 3))
def test_hcl_takes_weights_as_infonce_does(seed, tau, log_c):
    pos, neg = draw(seed)
    weight = torch.randn(B, N, generator=torch.Generator().manual_seed(seed)).double() + log_c
    got = hcl(pos, neg, tau=tau, beta=0, tau_plus=0, neg_log_weight=weight)
    torch.testing.assert_close(got, infonce(pos, neg, tau=tau, neg_log_weight=weight))


def test_hcl_leans_on_the_hardest():
    """For large β every negative is as the hardest one."""
    pos, neg = draw(1)
    got = hcl(pos, neg, tau=0.5, beta=500.0, tau_plus=0)
    hardest = neg.amax(1, keepdim=True).expand(B, N)
    torch.testing.assert_close(got, infonce(pos, hardest, tau=0.5), rtol=1e-6, atol=0)
    ordered = [hcl(pos, neg, tau=0.5, beta=beta, tau_plus=0) for beta in (0, 0.5, 2, 500)]
    for less, more in itertools.pairwise(ordered):
        assert (less < more).all()


@quick
@given(SEEDS, TAUS)
def test_bsl_with_equal_temperatures_and_one_row_a_user_is_sl(seed, tau):
    pos, neg = draw(seed)
    got = bsl(pos, neg, users=torch.arange(B), tau=tau, neg_power=1)
    want = infonce(pos, neg, tau=tau, include_positive=False) - math.log(N)
    torch.testing.assert_close(got, want)


@quick
@given(SEEDS, TAUS)
def test_bsl_pools_the_rows_of_a_user(seed, tau):
    """Rows of one user with equal scores are as one; a shift of a user changes nothing."""
    pos, neg = draw(seed)
    users = torch.tensor([4, 0, 4, 4, 2, 0])
    same = pos[users]
    got = bsl(same, neg, users=users, tau=tau, neg_power=1.2)
    alone = bsl(same, neg, users=torch.arange(B), tau=tau, neg_power=1.2)
    torch.testing.assert_close(got, alone)
    shift = torch.linspace(-9, 9, 5, dtype=torch.float64)[users]
    plain = bsl(pos, neg, users=users, tau=tau, neg_power=1)
    moved = bsl(pos + shift, neg + shift[:, None], users=users, tau=tau, neg_power=1)
    torch.testing.assert_close(moved, plain)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    permuted = bsl(pos[order], neg[order], users=users[order], tau=tau, neg_power=1)
    torch.testing.assert_close(permuted, plain[order])


@quick
@given(SEEDS, TAUS)
def test_psl_with_the_exponential_is_sl_at_twice_the_tau(seed, tau):
    pos, neg = draw(seed)
    got = psl(pos, neg, tau=tau, activation="exp")
    torch.testing.assert_close(got, infonce(pos, neg, tau=2 * tau, include_positive=False))


@quick
@given(SEEDS, TAUS, st.sampled_from(ACTIVATIONS))
def test_psl_is_a_tighter_bound_than_sl(seed, tau, activation):
    """Step function ≤ σ ≤ e^d on [−1, 1], the paper's condition."""
    pos, neg = draw(seed)
    loss = psl(pos, neg, tau=tau, activation=activation)
    assert (loss <= psl(pos, neg, tau=tau, activation="exp") + 1e-12).all()
    above = (neg >= pos[:, None]).sum(1)
    assert (loss >= above.clamp(min=1e-300).log() - 1e-12).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_psl_agrees_with_sl_to_first_order(activation):
    """σ(d) = 1 + d + O(d²)."""
    pos, neg = (1e-4 * x for x in draw(3))
    got = psl(pos, neg, tau=0.5, activation=activation)
    want = psl(pos, neg, tau=0.5, activation="exp")
    torch.testing.assert_close(got, want, rtol=0, atol=1e-7)
    assert not torch.equal(got, want)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_psl_is_finite_at_the_ends(activation):
    pos = torch.tensor([1.0, 1.0, -1.0], requires_grad=True)
    neg = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]], requires_grad=True)
    for tau in (1e-3, 0.1, 10.0):
        loss = psl(pos, neg, tau=tau, activation=activation)
        assert loss.isfinite().all()
        grads = torch.autograd.grad(loss.sum(), (pos, neg))
        assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hcl_is_finite_where_the_difference_is_empty(dtype):
    """Negatives that leave nothing, or the least that a number can hold, after the correction."""
    pos = torch.tensor([0.5, 0.5, 1.0, -1.0], dtype=dtype, requires_grad=True)
    neg = torch.tensor([[0.5], [0.5], [-1.0], [1.0]], dtype=dtype, requires_grad=True)
    for tau in (1e-3, 0.1, 10.0):
        for tau_plus in (0.0, 0.5, 1 - 1e-7, torch.finfo(dtype).tiny):
            loss = hcl(pos, neg, tau=tau, beta=1.0, tau_plus=tau_plus)
            assert loss.isfinite().all()
            grads = torch.autograd.grad(loss.sum(), (pos, neg))
            assert all(grad.isfinite().all() for grad in grads)
    # exactly the share of positives: nothing is left but the floor
    exact = hcl(pos[:1], neg[:1] + 0.1 * math.log(0.25), tau=0.1, beta=0.0, tau_plus=0.25)
    assert exact.item() < 1e-4


@quick
@given(SEEDS)
def test_one_negative_at_tau_one_is_bpr(seed):
    pos, neg = draw(seed)
    one = neg[:, :1]
    want = bpr(pos, one)
    sl = infonce(pos, one, tau=1.0, include_positive=False)
    torch.testing.assert_close(torch.nn.functional.softplus(sl), want)
    half = psl(pos, one, tau=0.5, activation="exp")
    torch.testing.assert_close(torch.nn.functional.softplus(half), want)
    pooled = bsl(pos, one, users=torch.arange(B), tau=1.0, neg_power=1.0)
    torch.testing.assert_close(torch.nn.functional.softplus(pooled), want)
    torch.testing.assert_close(hcl(pos, one, tau=1.0, beta=3.0, tau_plus=0.0), want)


@quick
@given(SEEDS, st.floats(-0.5, 0.9))
def test_mmcl_of_equal_margins_is_ccl(seed, margin):
    pos, neg = draw(seed)
    want = ccl(pos, neg, margin=margin, neg_weight=6.0)
    one = mmcl(pos, neg, margins=(margin,), neg_weights=(6.0,))
    torch.testing.assert_close(one, want)
    three = mmcl(pos, neg, margins=(margin,) * 3, neg_weights=(1.0, 2.0, 3.0))
    torch.testing.assert_close(three, want)
    terms = [mmcl(pos, neg, margins=m, neg_weights=w) for m, w in (
        ((margin, 0.1), (2.0, 3.0)), ((0.1, margin), (3.0, 2.0)),
    )]  # fmt: skip
    torch.testing.assert_close(*terms)


def test_ccl_rests_where_the_margins_are_kept():
    pos, neg = torch.ones(B), draw(4, torch.float32)[1].clamp(max=0.3)
    assert not ccl(pos, neg, margin=0.3, neg_weight=150.0).any()
    assert (ccl(pos, neg, margin=neg.amax().item() - 0.01, neg_weight=150.0) > 0).any()


@quick
@given(SEEDS, st.floats(-50, 50))
def test_simce_is_the_limit_of_infonce_and_shift_invariant(seed, shift):
    pos, neg = draw(seed)
    limit = 1e-6 * infonce(pos, neg, tau=1e-6)
    torch.testing.assert_close(simce(pos, neg, margin=0.0), limit, rtol=0, atol=1e-5)
    rows = shift * torch.linspace(-1, 1, B, dtype=torch.float64)
    moved = simce(pos + rows, neg + rows[:, None], margin=0.5)
    torch.testing.assert_close(moved, simce(pos, neg, margin=0.5), rtol=1e-9, atol=1e-12)
