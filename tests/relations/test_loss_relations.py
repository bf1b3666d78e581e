"""Relations that hold between losses, and between the two players of the game."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrarec.losses import (
    LOSSES,
    AdvInfoNCE,
    AdvInfoNCEConfig,
    History,
    InfoNCE,
    InfoNCEConfig,
)
from contrarec.losses.functional import (
    bpr,
    budgeted_log_p,
    closed_form_log_p,
    infonce,
    kl_to_uniform,
)
from graphs import encoder

N_USERS, N_ITEMS, B, N, DIM = 7, 11, 6, 5, 4
# user u has the items 0, 2, … 2 min(u, 4): one item to five of them
LENGTHS = np.minimum(np.arange(N_USERS), 4) + 1
HISTORY = History(
    np.append(0, LENGTHS.cumsum()), np.concatenate([2 * np.arange(n) for n in LENGTHS])
)
TAUS = st.sampled_from([0.05, 0.28, 1.0, 2.0])
SEEDS = st.integers(0, 10_000)
SOFTMAX_LOSSES = [name for name, spec in LOSSES.items() if spec.loss.weighs_negatives]
# not of differences of scores: the floor of HCL knows that they are cosines, BSL has unequal
# temperatures, BC adds to an angle, PopGo multiplies, SL@K has a threshold
ABSOLUTE = ("bc", "bsl", "hcl", "popgo", "sl-at-k")
SHIFT_INVARIANT = [name for name in SOFTMAX_LOSSES if name not in ABSOLUTE]

# few examples each: a relation that fails does so on nearly every draw
quick = settings(max_examples=15, deadline=None)


def draw(seed, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    pos = 2 * torch.rand(B, generator=g, dtype=dtype) - 1
    neg = 2 * torch.rand(B, N, generator=g, dtype=dtype) - 1
    return pos, neg


def batch(seed=0):
    g = torch.Generator().manual_seed(seed)
    rows = {
        "users": torch.randint(0, N_USERS, (B,), generator=g),
        "neg_items": torch.randint(0, N_ITEMS, (B, N), generator=g),
        "vectors": (torch.randn(N_USERS, DIM, generator=g), torch.randn(N_ITEMS, DIM, generator=g)),
        "pos_items": torch.randint(0, N_ITEMS, (B,), generator=g),
    }
    return rows | {"outputs": rows["vectors"]}


def make(name, **overrides):
    spec = LOSSES[name]
    loss = spec.loss(
        spec.configure(**overrides),
        n_users=N_USERS,
        n_items=N_ITEMS,
        item_counts=torch.arange(N_ITEMS),
        history=HISTORY,
        dim=DIM,
        rng=5,
    )
    if spec.kind == "graph":  # the views of a step are made before its loss
        loss.propagate(encoder(*HISTORY, N_ITEMS, dim=DIM))
    return loss


@quick
@given(SEEDS, TAUS, st.sampled_from([1.0, 64.0]))
def test_uniform_p_is_infonce_and_k_neg_a_shift_of_every_negative(seed, tau, k_neg):
    pos, neg = draw(seed)
    adv = AdvInfoNCE(
        AdvInfoNCEConfig(tau=tau, k_neg=k_neg), n_users=N_USERS, n_items=N_ITEMS, rng=0
    )
    torch.nn.init.zeros_(adv.hardness.users)  # every logit 0: uniform p
    shifted = infonce(pos, neg + tau * math.log(k_neg), tau=tau).mean()
    torch.testing.assert_close(adv(pos, neg, **batch()), shifted, rtol=1e-6, atol=0)
    control = InfoNCE(InfoNCEConfig(tau=tau, k_neg=k_neg))
    torch.testing.assert_close(control(pos, neg), shifted)
    if k_neg == 1:
        torch.testing.assert_close(shifted, infonce(pos, neg, tau=tau).mean())


@quick
@given(SEEDS, st.floats(-50, 50), st.sampled_from(SHIFT_INVARIANT))
def test_row_shift_changes_no_softmax_loss(seed, shift, name):
    """A different shift for each row; the penalised closed form is not shift-invariant."""
    pos, neg = draw(seed)
    loss, rows = make(name), shift * torch.linspace(-1, 1, B, dtype=torch.float64)
    before = loss(pos, neg, **batch())
    after = loss(pos + rows, neg + rows[:, None], **batch())
    torch.testing.assert_close(after, before, rtol=1e-6, atol=1e-9)


@quick
@given(SEEDS)
def test_row_shift_changes_no_bpr_nor_sl(seed):
    pos, neg = draw(seed)
    rows = torch.linspace(-9, 9, B, dtype=torch.float64)
    torch.testing.assert_close(bpr(pos + rows, neg + rows[:, None]), bpr(pos, neg))
    sl = infonce(pos, neg, tau=0.1, include_positive=False)
    moved = infonce(pos + rows, neg + rows[:, None], tau=0.1, include_positive=False)
    torch.testing.assert_close(moved, sl)


# MixRec mixes the first negative of a row with that of another
UNORDERED = sorted(LOSSES.keys() - {"mixrec"})


@quick
@given(SEEDS, st.sampled_from(UNORDERED))
def test_permuting_negatives_changes_nothing(seed, name):
    pos, neg = draw(seed)
    loss, rows = make(name), batch(seed)
    order = torch.argsort(torch.rand(B, N, generator=torch.Generator().manual_seed(seed)), 1)
    permuted = rows | {"neg_items": rows["neg_items"].gather(1, order)}
    before = loss(pos, neg, **rows)
    torch.testing.assert_close(
        loss(pos, neg.gather(1, order), **permuted), before, rtol=1e-6, atol=0
    )


@quick
@given(SEEDS)
def test_one_negative_at_tau_one_is_bpr(seed):
    pos, neg = draw(seed)
    one = neg[:, :1]
    torch.testing.assert_close(infonce(pos, one, tau=1.0), bpr(pos, one))
    sl = infonce(pos, one, tau=1.0, include_positive=False)
    torch.testing.assert_close(torch.nn.functional.softplus(sl), bpr(pos, one))
    torch.testing.assert_close(sl, one[:, 0] - pos)


@quick
@given(SEEDS, TAUS, st.floats(-5, 5))
def test_constant_weight_is_a_shift_of_the_negatives(seed, tau, log_c):
    pos, neg = draw(seed)
    weight = torch.full_like(neg, log_c)
    shifted = infonce(pos, neg + tau * log_c, tau=tau)
    torch.testing.assert_close(infonce(pos, neg, tau=tau, neg_log_weight=weight), shifted)
    scalar = torch.tensor(log_c, dtype=torch.float64)
    torch.testing.assert_close(infonce(pos, neg, tau=tau, neg_log_weight=scalar), shifted)


def test_weight_zero_leaves_a_negative_out_and_weight_two_counts_it_twice():
    pos, neg = draw(0)
    weight = torch.tensor([-math.inf, 0.0, 0.0, 0.0, math.log(2)], dtype=torch.float64)
    got = infonce(pos, neg, tau=0.3, neg_log_weight=weight.expand(B, N))
    want = infonce(pos, neg[:, [1, 2, 3, 4, 4]], tau=0.3)
    torch.testing.assert_close(got, want)


@quick
@given(SEEDS, st.floats(0.01, 30))
def test_kl_lies_between_zero_and_log_n(seed, scale):
    g = scale * torch.randn(B, N, generator=torch.Generator().manual_seed(seed))
    kl = kl_to_uniform(g.log_softmax(1))
    assert (kl >= 0).all()
    assert (kl <= math.log(N) + 1e-5).all()
    one_hot = torch.full((1, N), -math.inf)
    one_hot[0, 2] = 0.0
    assert kl_to_uniform(one_hot).item() == pytest.approx(math.log(N), rel=1e-6)
    assert kl_to_uniform(torch.full((1, N), -math.log(N))).item() == pytest.approx(0, abs=1e-7)


# the closed form as distributionally robust optimisation


@quick
@given(SEEDS, st.sampled_from([0.1, 0.5, 2.0]), st.sampled_from([0.01, 0.1, 0.6]))
def test_closed_form_attains_the_maximum_over_the_kl_ball(seed, tau, eta):
    """Brute force over a fine grid of the simplex of three negatives."""
    pos, neg = draw(seed)
    pos, neg = pos[:1], neg[:1, :3]
    log_p = closed_form_log_p(neg, tau=tau, eta=eta)
    assert kl_to_uniform(log_p).item() == pytest.approx(eta, rel=1e-5)
    attained = infonce(pos, neg, tau=tau, neg_log_weight=log_p + math.log(3)).item()
    steps = 300
    grid = torch.tensor(
        [(i, j, steps - i - j) for i in range(steps + 1) for j in range(steps + 1 - i)],
        dtype=torch.float64,
    )
    log_grid = (grid / steps).log()
    ball = log_grid[kl_to_uniform(log_grid) <= eta]
    losses = infonce(
        pos.expand(len(ball)), neg.expand(len(ball), 3), tau=tau,
        neg_log_weight=ball + math.log(3),
    )  # fmt: skip
    best = losses.max().item()
    assert best <= attained + 1e-9
    # and the grid comes close, so that the bound says something
    uniform = infonce(pos, neg, tau=tau).item()
    assert best >= attained - 0.1 * (attained - uniform) - 1e-3


@quick
@given(SEEDS, st.floats(0.01, 1.0))
def test_no_tempered_distribution_beats_the_closed_form(seed, eta):
    """Many random p, each tempered into the ball: none gives a larger loss."""
    pos, neg = draw(seed)
    log_p = closed_form_log_p(neg, tau=0.28, eta=eta)
    best = infonce(pos, neg, tau=0.28, neg_log_weight=log_p)
    g = 3 * torch.randn(200, B, N, generator=torch.Generator().manual_seed(seed)).double()
    others = budgeted_log_p(g.view(-1, N), eta, maximum=math.inf)
    assert (kl_to_uniform(others) <= eta * (1 + 1e-5)).all()
    losses = infonce(pos.repeat(200), neg.repeat(200, 1), tau=0.28, neg_log_weight=others).view(
        200, B
    )
    assert (losses <= best + 1e-9).all()


def test_closed_form_beyond_reach_takes_the_maximal_entries():
    neg = torch.tensor([[0.5, 0.5, -0.2, 0.1], [0.3, 0.3, 0.3, 0.3], [0.9, 0.8, 0.1, 0.2]])
    kl = kl_to_uniform(closed_form_log_p(neg, tau=0.2, eta=1.2))
    # two maximal of four: log 2 at most; a constant row: 0; the third can spend 1.2 < log 4
    torch.testing.assert_close(kl, torch.tensor([math.log(2), 0.0, 1.2]), rtol=1e-5, atol=1e-6)


def test_closed_form_limits():
    _, neg = draw(1)
    uniform = torch.full_like(neg, -math.log(N))
    torch.testing.assert_close(closed_form_log_p(neg, tau=0.5, lam=1e9), uniform, rtol=0, atol=1e-7)
    torch.testing.assert_close(
        closed_form_log_p(neg, tau=0.5, eta=1e-12), uniform, rtol=0, atol=1e-5
    )


# budgets of the learned, random and popularity hardness


@pytest.mark.parametrize("name", ["infonce-random", "infonce-popularity", "advinfonce-closed"])
def test_controls_spend_the_budget_exactly(name):
    """So that they compare with the adversary at equal KL."""
    _, neg = draw(2)
    rows = batch(2)
    rows["neg_items"] = torch.stack([torch.randperm(N_ITEMS)[:N] for _ in range(B)])
    kl = kl_to_uniform(make(name, eta=0.03).log_p(neg, **rows).double())
    torch.testing.assert_close(kl, torch.full_like(kl, 0.03), rtol=1e-4, atol=0)


@pytest.mark.parametrize("hardness", ["embedding", "mlp"])
def test_learned_hardness_never_leaves_the_ball(hardness):
    rows, (pos, neg) = batch(3), draw(3, torch.float32)
    loss = make("advinfonce", hardness=hardness, eta=0.02, adv_lr=0.5)
    for _ in range(20):
        step = loss.adversary_step(pos, neg, **rows)
        assert (step.kl <= 0.02 * (1 + 1e-4)).all()
    assert step.kl.mean() > 0.01  # it wants out, and the budget holds it
    free = make("advinfonce", hardness=hardness, adv_lr=0.5)
    for _ in range(20):
        step = free.adversary_step(pos, neg, **rows)
    assert step.kl.max() > 0.1


# the two players


def snapshot(*modules):
    return [tensor.clone() for module in modules for tensor in module.state_dict().values()]


def towers(seed=0):
    torch.manual_seed(seed)
    return torch.nn.ModuleList([torch.nn.Embedding(N_USERS, DIM), torch.nn.Embedding(N_ITEMS, DIM)])


def score(model, rows, positives):
    users = model[0](rows["users"])
    pos = (users * model[1](positives)).sum(1)
    return pos, torch.einsum("bd,bnd->bn", users, model[1](rows["neg_items"]))


@pytest.mark.parametrize("eta", [None, 0.05])
@pytest.mark.parametrize("direction", ["max", "min"])
@pytest.mark.parametrize("hardness", ["embedding", "mlp"])
def test_each_player_moves_alone(hardness, direction, eta):
    model, positives = towers(), torch.arange(B)
    loss = make("advinfonce", hardness=hardness, direction=direction, tau=0.5, adv_lr=1e-3, eta=eta)
    rows = batch(4) | {"vectors": (model[0].weight, model[1].weight)}
    # even an optimizer that holds everybody's parameters moves the model alone
    optimizer = torch.optim.Adam([*model.parameters(), *loss.parameters()], lr=0.01)

    before = snapshot(loss)
    value = loss(*score(model, rows, positives), **rows)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, snapshot(loss), strict=True))
    assert all(parameter.grad is None for parameter in loss.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())

    pos, neg = score(model, rows, positives)  # attached: the step itself must detach
    before, model_before = loss(pos, neg, **rows).item(), snapshot(model)
    model_grads = [parameter.grad.clone() for parameter in model.parameters()]
    step = loss.adversary_step(pos, neg, **rows)
    after = loss(pos, neg, **rows).item()
    assert step.loss.item() == before
    assert after > before if direction == "max" else after < before
    assert all(torch.equal(a, b) for a, b in zip(model_before, snapshot(model), strict=True))
    for parameter, grad in zip(model.parameters(), model_grads, strict=True):
        assert torch.equal(parameter.grad, grad)


def test_minimising_and_maximising_adversary_part_ways():
    """Over many steps one raises the loss and the other lowers it, from the same start."""
    rows, (pos, neg) = batch(6), draw(6, torch.float32)
    values = {}
    for direction in ("max", "min"):
        loss = make("advinfonce", direction=direction, adv_lr=0.05)
        start = loss(pos, neg, **rows).item()
        for _ in range(30):
            loss.adversary_step(pos, neg, **rows)
        values[direction] = loss(pos, neg, **rows).item() - start
    assert values["max"] > 0.05
    assert values["min"] < -0.05


def test_learned_adversary_approaches_the_closed_form():
    """On one batch with its own row for every user, enough steps nearly reach the maximum.

    Not quite: with β as a constant the fixed point is the optimum only for small budgets.
    """
    g = torch.Generator().manual_seed(7)
    pos, neg = draw(7, torch.float32)
    rows = {
        "users": torch.arange(B),
        "neg_items": torch.stack([torch.randperm(N_ITEMS, generator=g)[:N] for _ in range(B)]),
    }
    learned = make("advinfonce", eta=0.1, adv_lr=0.1, tau=0.5, adv_dim=16)
    closed = make("advinfonce-closed", eta=0.1, tau=0.5)
    top, uniform = closed(pos, neg).item(), infonce(pos, neg, tau=0.5).mean().item()
    for _ in range(100):
        learned.adversary_step(pos, neg, **rows)
    reached = learned(pos, neg, **rows).item()
    assert reached <= top + 1e-6
    assert reached > uniform + 0.9 * (top - uniform)


# extremes


@pytest.mark.parametrize("name", SOFTMAX_LOSSES)
@pytest.mark.parametrize("tau", [1e-4, 1e4])
def test_extreme_temperatures_stay_finite(name, tau):
    pos, neg = (x.requires_grad_() for x in draw(8, torch.float32))
    loss = make(name, tau=tau)
    value = loss(pos, neg, **batch())
    grads = torch.autograd.grad(value, (pos, neg))
    assert math.isfinite(value.item())
    assert all(grad.isfinite().all() for grad in grads)


def test_small_tau_is_the_hardest_negative():
    """τ·loss tends to relu(max neg − pos); a raw exponential would be inf here."""
    pos, neg = draw(9, torch.float32)
    got = 1e-4 * infonce(pos, neg, tau=1e-4)
    torch.testing.assert_close(got, torch.relu(neg.amax(1) - pos), rtol=0, atol=1e-3)
    p = closed_form_log_p(neg, tau=1e-4).exp()
    torch.testing.assert_close(p, torch.nn.functional.one_hot(neg.argmax(1), N).float())


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_single_row_and_single_negative(name):
    loss = make(name)
    for n_rows, n_neg in ((1, 1), (1, 4), (3, 1)):
        users = torch.arange(n_rows)
        items = torch.arange(n_rows * n_neg).view(n_rows, n_neg) % N_ITEMS
        pos = torch.linspace(0.1, 0.5, n_rows)
        neg = torch.linspace(-1, 1, n_rows * n_neg).view(n_rows, n_neg)
        rows = batch() | {"users": users, "pos_items": users, "neg_items": items}
        assert math.isfinite(loss(pos, neg, **rows).item())
        if n_neg == 1 and name.startswith(("infonce-", "advinfonce")):  # p = 1: nothing to choose
            k_neg = loss.config.k_neg
            want = infonce(pos, neg + loss.config.tau * math.log(k_neg), tau=loss.config.tau)
            torch.testing.assert_close(loss(pos, neg, **rows), want.mean())


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_non_contiguous_inputs_are_read_and_not_written(name):
    loss, rows = make(name), batch(10)
    pos, neg = draw(10, torch.float32)
    want = loss(pos, neg, **rows)
    strided_pos = torch.stack([pos, -pos], 1)[:, 0]
    strided_neg = neg.T.contiguous().T
    strided = rows | {"neg_items": rows["neg_items"].T.contiguous().T}
    copies = [x.clone() for x in (strided_pos, strided_neg, *strided["vectors"])]
    torch.testing.assert_close(loss(strided_pos, strided_neg, **strided), want)
    if loss.has_adversary:
        loss.adversary_step(strided_pos, strided_neg, **strided)
    for copy, x in zip(copies, (strided_pos, strided_neg, *strided["vectors"]), strict=True):
        assert torch.equal(copy, x)
