"""Relations of the losses that remember or learn, and what their own steps do."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrarec.losses import LOSSES, History, functional
from contrarec.losses.functional import bpr, infonce

N_USERS, N_ITEMS, B, N, DIM = 5, 9, 6, 4, 3
HISTORY = History(np.array([0, 1, 3, 6, 8, 9]), np.array([0, 1, 4, 2, 5, 8, 0, 7, 3]))
NAMES = ["bc", "popgo", "adap-tau", "sl-at-k", "drrl", "llpauc", "variational-bpr"]
SEEDS = st.integers(0, 10_000)
quick = settings(max_examples=15, deadline=None)


def make(name, **overrides):
    spec = LOSSES[name]
    return spec.loss(
        spec.configure(**overrides),
        n_users=N_USERS,
        n_items=N_ITEMS,
        history=HISTORY,
        dim=DIM,
        rng=5,
    )


def tables(seed=0):
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(n, DIM, generator=g, requires_grad=True) for n in (N_USERS, N_ITEMS))


def batch(vectors, seed=0, *, cosine=True):
    """Return scores and context of a batch in which user 2 occurs twice."""
    g = torch.Generator().manual_seed(seed)
    rows = {
        "users": torch.tensor([0, 2, 1, 2, 4, 3]),
        "pos_items": torch.randint(0, N_ITEMS, (B,), generator=g),
        "neg_items": torch.randint(0, N_ITEMS, (B, N), generator=g),
        "vectors": vectors,
        "outputs": vectors,
    }
    U, V = (torch.nn.functional.normalize(x) for x in vectors) if cosine else vectors
    pos = (U[rows["users"]] * V[rows["pos_items"]]).sum(1)
    neg = torch.einsum("bd,bnd->bn", U[rows["users"]], V[rows["neg_items"]])
    return pos, neg, rows


def draw(seed, scale=1.0):
    g = torch.Generator().manual_seed(seed)
    pos = scale * (2 * torch.rand(B, generator=g, dtype=torch.float64) - 1)
    neg = scale * (2 * torch.rand(B, N, generator=g, dtype=torch.float64) - 1)
    return pos, neg


# BC and PopGo


@quick
@given(SEEDS)
def test_bc_without_margin_is_infonce_and_grows_with_it(seed):
    pos, neg = draw(seed, scale=0.9)  # no angle reaches π, where a margin adds nothing more
    zero = torch.zeros(B, dtype=torch.float64)
    plain = infonce(pos, neg, tau=0.2)
    torch.testing.assert_close(functional.bc(pos, neg, margin=zero, tau=0.2), plain)
    small = functional.bc(pos, neg, margin=zero + 0.1, tau=0.2)
    large = functional.bc(pos, neg, margin=zero + 0.5, tau=0.2)
    assert (plain < small).all()
    assert (small < large).all()


def test_bc_that_popularity_explains_is_infonce():
    pos, neg, rows = batch(tables())
    loss = make("bc", pop_weight=0.0, tau=0.2)
    with torch.no_grad():
        for vectors in loss.learned():
            vectors.fill_(10)  # sigmoid of 300: no margin
    torch.testing.assert_close(loss(pos, neg, **rows), infonce(pos, neg, tau=0.2).mean())


def test_bc_never_pushes_a_positive_away():
    pos = torch.linspace(-1, 1, 101, dtype=torch.float64).requires_grad_()
    neg = torch.zeros(101, 2, dtype=torch.float64)
    losses = functional.bc(pos, neg, margin=torch.full_like(pos, 0.9).detach(), tau=0.2)
    (grad,) = torch.autograd.grad(losses.sum(), pos)
    assert (grad <= 0).all()
    assert (grad[torch.arccos(pos) + 0.9 > math.pi] == 0).all()


def test_popgo_with_a_constant_shortcut_is_infonce_of_scaled_scores():
    pos, neg, rows = batch(tables())
    loss = make("popgo", pop_weight=0.0, tau=0.2)
    with torch.no_grad():
        for vectors in loss.learned():
            vectors.zero_()  # sigmoid of 0
    torch.testing.assert_close(
        loss(pos, neg, **rows), infonce(0.5 * pos, 0.5 * neg, tau=0.2).mean()
    )


# Adap-τ and SL@K


@quick
@given(SEEDS, st.sampled_from([0.05, 0.3, 2.0]))
def test_adap_tau_with_one_temperature_is_sl(seed, tau):
    pos, neg = draw(seed)
    scale = torch.full((B,), 1 / tau, dtype=torch.float64)
    got = functional.adap_tau(pos, neg, pos_scale=1 / tau, neg_scale=scale)
    torch.testing.assert_close(got, infonce(pos, neg, tau=tau, include_positive=False))


def test_adap_tau_warms_up_as_sl_and_stays_so_while_users_fare_alike():
    vectors = tables()
    pos, neg, rows = batch(vectors)
    loss = make("adap-tau", tau=0.4, warm_up_epochs=1)
    loss.begin_epoch(0, vectors)
    sl = infonce(pos, neg, tau=0.4, include_positive=False).mean()
    torch.testing.assert_close(loss(pos, neg, **rows), sl)
    U, V = tables()
    with torch.no_grad():  # user u looks where its items are: positives lie above the mean
        for u in range(N_USERS):
            U[u] = V[HISTORY.indices[HISTORY.indptr[u] : HISTORY.indptr[u + 1]]].mean(0)
        loss.loss_sums.fill_(6.0)
        loss.loss_counts.fill_(3.0)
        loss.begin_epoch(1, (U, V))
    tau = 1 / loss.pos_scale.item()
    assert tau != pytest.approx(0.4, rel=1e-3)
    sl = infonce(pos, neg, tau=tau, include_positive=False).mean()
    torch.testing.assert_close(loss(pos, neg, **rows), sl)


def test_adap_tau_softens_what_is_badly_fitted():
    scales = functional.user_scales(torch.linspace(-3, 3, 25), common=4.0, beta=1.0)
    assert (scales.diff() <= 0).all()
    assert scales[0].item() == pytest.approx(4 * math.e, rel=1e-6)
    assert scales[12].item() == pytest.approx(4)
    assert (functional.user_scales(torch.full((9,), 3.0), common=4.0, beta=1e-4) == 4).all()


@quick
@given(SEEDS)
def test_sl_at_k_with_a_soft_threshold_is_half_of_sl(seed):
    pos, neg = draw(seed)
    threshold = torch.linspace(-1, 1, B, dtype=torch.float64)
    got = functional.sl_at_k(pos, neg, threshold=threshold, tau=0.2, tau_w=1e9)
    torch.testing.assert_close(got, 0.5 * infonce(pos, neg, tau=0.2, include_positive=False))


def test_sl_at_k_refreshes_its_thresholds_when_it_is_time():
    loss, vectors = make("sl-at-k", k=2, threshold_interval=3, threshold_samples=50), tables()
    loss.begin_epoch(0, vectors)
    first = loss.threshold.clone()
    assert (first != 0).all()
    other = tables(seed=1)
    loss.begin_epoch(1, other)
    loss.begin_epoch(2, other)
    assert torch.equal(loss.threshold, first)
    loss.begin_epoch(3, other)
    assert (loss.threshold != first).all()
    # of 50 draws from at most 9 items, some are the best: no score is above all but one
    everything = torch.nn.functional.normalize(other[0]) @ torch.nn.functional.normalize(other[1]).T
    assert (loss.threshold <= everything.amax(1) + 1e-6).all()
    assert (loss.threshold > everything.median(1).values).all()


# DrRL


@quick
@given(SEEDS, st.floats(-0.5, 0.9), st.floats(0.5, 9))
def test_drrl_of_infinite_order_is_ccl(seed, m, c):
    pos, neg = draw(seed)
    got = functional.drrl(
        pos, neg, margin=torch.full_like(pos, m), omega=1e10, neg_weight=c, eps=0.1
    )
    for b in range(B):
        hinges = [max(0.0, x - m) for x in neg[b].tolist()]
        ccl = max(0.0, 1 - pos[b].item()) + c / N * sum(hinges)
        assert got[b].item() == pytest.approx(ccl + m + 0.1, abs=1e-8)


def test_drrl_margins_rest_where_the_share_above_them_is_one_in_c():
    loss = make("drrl", omega=1e6, neg_weight=4.0, margin_lr=0.002)
    neg = torch.linspace(-1, 1, 101)[None]  # a quarter lies above 0.5
    users, pos = torch.tensor([3]), torch.tensor([1.0])
    for _ in range(1000):
        loss(pos, neg, users=users).backward()
        loss.after_backward()
    assert loss.margins[3].item() == pytest.approx(0.5, abs=0.03)
    assert (loss.margins[:3] == torch.tensor(0.7)).all()


# what each moves by itself


def copies(loss):
    return {name: tensor.clone() for name, tensor in loss.state_dict().items()}


@pytest.mark.parametrize("name", NAMES)
def test_own_steps_leave_the_model_alone_and_clear_their_gradients(name):
    vectors = tables()
    loss = make(name)
    loss.begin_epoch(0, vectors)
    pos, neg, rows = batch(vectors, cosine=loss.similarity == "cosine")
    value = loss(pos, neg, **rows)
    before = [x.detach().clone() for x in vectors]
    value.backward()
    grads = [x.grad.clone() for x in vectors]
    loss.after_backward()
    for x, old, grad in zip(vectors, before, grads, strict=True):
        assert torch.equal(x, old)
        assert torch.equal(x.grad, grad)
        assert grad.abs().sum() > 0
    learned = set(map(id, loss.learned()))
    assert all(p.grad is None for p in loss.parameters() if id(p) not in learned)


@pytest.mark.parametrize("name", NAMES)
def test_a_call_changes_no_state(name):
    """What is counted or moved waits for `after_backward`."""
    vectors, loss = tables(), make(name)
    loss.begin_epoch(0, vectors)
    pos, neg, rows = batch(vectors, cosine=loss.similarity == "cosine")
    before = copies(loss)
    first = loss(pos, neg, **rows)
    assert torch.equal(loss(pos, neg, **rows), first)
    assert all(torch.equal(before[key], x) for key, x in loss.state_dict().items())


def test_drrl_step_lowers_its_loss_as_descent_on_the_rows_would():
    vectors = tables()
    loss = make("drrl", margin_lr=1e-3, margin=0.3, neg_weight=2.0)
    pos, neg, rows = batch(vectors)
    before, margins = loss(pos, neg, **rows), loss.margins.clone()
    before.backward(retain_graph=True)
    loss.after_backward()
    assert loss(pos, neg, **rows) < before
    # user 2 has two rows: both pull, each at the full rate
    free = margins.clone().requires_grad_()
    losses = functional.drrl(
        pos.detach(), neg.detach(), margin=free[rows["users"]], omega=150.0, neg_weight=2.0, eps=0.1
    )
    (grad,) = torch.autograd.grad(losses.sum(), free)
    torch.testing.assert_close(loss.margins, margins - 1e-3 * grad)


ASCENDING = {"g", "s_pos"}


@pytest.mark.parametrize("player", ["a", "b", "g", "s_pos", "s_neg", "theta_a", "theta_b"])
def test_each_number_of_llpauc_moves_the_objective_its_own_way(player):
    vectors = tables()
    loss = make("llpauc", game_lr=1e-4)
    with torch.no_grad():  # off the ends of its range
        loss.game["a"].fill_(0.7)
        loss.game["b"].fill_(0.2)
    pos, neg, rows = batch(vectors, cosine=False)
    before, numbers = loss(pos, neg, **rows), copies(loss)
    before.backward(retain_graph=True)
    loss.after_backward()
    moved = loss.game[player].item()
    loss.load_state_dict(numbers)
    with torch.no_grad():
        loss.game[player].fill_(moved)
    after = loss(pos, neg, **rows)
    assert after > before if player in ASCENDING else after < before


def test_numbers_of_llpauc_stay_in_their_ranges():
    loss = make("llpauc", game_lr=100.0)
    ranges = {"a": (0, 1), "b": (0, 1), "g": (-1, 1), "s_pos": (-1, 4), "s_neg": (0, 5)}
    ranges |= {"theta_a": (0, 1e9), "theta_b": (0, 1e9)}
    seen = set()
    for seed in range(20):
        pos, neg = (3 * x.float().requires_grad_() for x in draw(seed))
        loss(pos, neg).backward()
        loss.after_backward()
        for name, (low, high) in ranges.items():
            value = loss.game[name].item()
            assert low <= value <= high, name
            seen |= {(name, bound) for bound in (low, high) if value == bound}
    assert {("a", 0), ("b", 1), ("g", -1), ("theta_a", 0)} & seen


def test_llpauc_finds_the_best_share():
    """At rest the numbers say which part of the scores counts."""
    g = torch.Generator().manual_seed(0)
    loss = make("llpauc", alpha=0.5, beta=0.25, game_lr=0.01)
    pos, neg = (torch.randn(n, generator=g) for n in ((400,), (400, 50)))
    for _ in range(3000):
        loss(pos + 1, neg).backward()
        loss.after_backward()
    numbers = {name: x.item() for name, x in loss.game.items()}
    y_pos, y_neg = torch.sigmoid(pos + 1), torch.sigmoid(neg)
    a, b, g = numbers["a"], numbers["b"], numbers["g"]
    above = -((y_pos - a) ** 2) + 2 * (1 + g) * y_pos > numbers["s_pos"]
    assert above.float().mean().item() == pytest.approx(0.5, abs=0.1)
    above = (y_neg - b) ** 2 + 2 * (1 + g) * y_neg > numbers["s_neg"]
    assert above.float().mean().item() == pytest.approx(0.25, abs=0.1)


# Variational BPR


@quick
@given(SEEDS)
def test_variational_bpr_without_preferences_is_the_mean_of_bpr(seed):
    pos, neg = draw(seed, scale=3.0)
    more = draw(seed + 1, scale=3.0)[0]
    both = torch.stack([pos, more], 1)
    got = functional.variational_bpr(both, neg, c_pos=1e9, c_neg=1e9)
    torch.testing.assert_close(got, (bpr(pos, neg) + bpr(more, neg)) / 2)
    one = functional.variational_bpr(pos[:, None], neg[:, :1], c_pos=4.0, c_neg=4.0)
    torch.testing.assert_close(one, bpr(pos, neg[:, :1]))
    # sharp preferences: the best positive against the least negative
    sharp = functional.variational_bpr(both, neg, c_pos=1e-9, c_neg=1e-9)
    torch.testing.assert_close(sharp, bpr(both.amax(1), neg.amin(1, keepdim=True)))


def test_variational_bpr_with_its_own_positive_alone():
    vectors = tables()
    pos, neg, rows = batch(vectors, cosine=False)
    loss = make("variational-bpr", n_pos=1, c_neg=1e9)
    torch.testing.assert_close(loss(pos, neg, **rows), bpr(pos, neg).mean())


# extremes


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_neg", [1, 4])
def test_extreme_scores_stay_finite(name, n_neg):
    loss, vectors = make(name), tables()
    loss.begin_epoch(0, vectors)
    _, _, rows = batch(vectors)
    rows["neg_items"] = rows["neg_items"][:, :n_neg].contiguous()
    ends = [-1.0, 0.0, 1.0] if loss.similarity == "cosine" else [-1e4, 0.0, 1e4]
    for low in ends:
        for high in ends:
            pos = torch.full((B,), high, requires_grad=True)
            neg = torch.full((B, n_neg), low, requires_grad=True)
            value = loss(pos, neg, **rows)
            assert math.isfinite(value.item())
            for grad in torch.autograd.grad(value, (pos, neg)):
                assert grad.isfinite().all()
