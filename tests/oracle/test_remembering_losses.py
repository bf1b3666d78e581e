"""Losses that remember or learn, against loops in plain Python and values worked out by hand."""

import math

import numpy as np
import pytest
import torch

from contrarec.losses import History, functional
from contrarec.losses.adap_tau import AdapTau, AdapTauConfig
from contrarec.losses.histories import Histories
from contrarec.losses.popularity import PopularityConfig, PopularityLoss
from contrarec.losses.sl_at_k import kth_scores
from contrarec.losses.variational_bpr import VariationalBPR, VariationalBPRConfig

B, N = 5, 7
SHAPES = [(1, 1), (1, 7), (7, 1), (B, N)]
# users with 1, 3, 2 and 0 items of 6; item 4 has no user
HISTORY = History(np.array([0, 1, 4, 6, 6]), np.array([0, 0, 2, 5, 1, 5]))
N_USERS, N_ITEMS, DIM = 4, 6, 3


def scores(n_rows, n_neg, seed=0, scale=1.0):
    g = torch.Generator().manual_seed(seed)
    pos = scale * (2 * torch.rand(n_rows, generator=g, dtype=torch.float64) - 1)
    neg = scale * (2 * torch.rand(n_rows, n_neg, generator=g, dtype=torch.float64) - 1)
    row = torch.rand(n_rows, generator=g, dtype=torch.float64)
    weight = torch.randn(n_rows, n_neg, generator=g, dtype=torch.float64)
    return pos.requires_grad_(), neg.requires_grad_(), row, weight


def check(losses, value_of, *inputs):
    """Compare `[B]` losses with `value_of(b)`, and their gradients with central differences.

    `value_of` reads the inputs anew at each call; the inputs are leaves that the losses depend on.
    """
    upstream = torch.arange(1.0, len(losses) + 1, dtype=torch.float64)
    grads = torch.autograd.grad(losses, inputs, upstream)
    for b in range(len(losses)):
        assert losses[b].item() == pytest.approx(value_of(b), rel=1e-12, abs=1e-13)
    for x, grad in zip(inputs, grads, strict=True):
        flat, got = x.detach().view(-1), grad.reshape(-1)
        for i in range(len(flat)):
            old, values = flat[i].item(), []
            for step in (1e-6, -1e-6):
                flat[i] = old + step
                values.append(sum((b + 1) * value_of(b) for b in range(len(losses))))
            flat[i] = old
            want = (values[0] - values[1]) / 2e-6
            assert got[i].item() == pytest.approx(want, rel=1e-5, abs=1e-6)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def softplus(x):
    return math.log1p(math.exp(x))


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_bc(shape, weighted):
    pos, neg, margin, weight = scores(*shape)
    pos.data[0] = -0.9  # 2.69 rad: with its margin it ends at π
    margin[0] = 0.8

    def value(b):
        angle = min(math.acos(pos[b].item()) + margin[b].item(), math.pi)
        w = [math.exp(x) if weighted else 1.0 for x in weight[b].tolist()]
        e_pos = math.exp(math.cos(angle) / 0.3)
        e_neg = sum(w_j * math.exp(s / 0.3) for w_j, s in zip(w, neg[b].tolist(), strict=True))
        return -math.log(e_pos / (e_pos + e_neg))

    log_weight = weight if weighted else None
    losses = functional.bc(pos, neg, margin=margin, tau=0.3, neg_log_weight=log_weight)
    check(losses, value, pos, neg)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_adap_tau(shape, weighted):
    pos, neg, scale, weight = scores(*shape)
    scale = 1 + 5 * scale

    def value(b):
        w = [math.exp(x) if weighted else 1.0 for x in weight[b].tolist()]
        row = zip(w, neg[b].tolist(), strict=True)
        e_neg = sum(w_j * math.exp(scale[b].item() * s) for w_j, s in row)
        return -math.log(math.exp(3.0 * pos[b].item()) / e_neg)

    log_weight = weight if weighted else None
    losses = functional.adap_tau(
        pos, neg, pos_scale=3.0, neg_scale=scale, neg_log_weight=log_weight
    )
    check(losses, value, pos, neg)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_sl_at_k(shape, weighted):
    pos, neg, threshold, weight = scores(*shape)

    def value(b):
        w = [math.exp(x) if weighted else 1.0 for x in weight[b].tolist()]
        row = zip(w, neg[b].tolist(), strict=True)
        e_neg = sum(w_j * math.exp((s - pos[b].item()) / 0.2) for w_j, s in row)
        return sigmoid((pos[b].item() - threshold[b].item()) / 0.7) * math.log(e_neg)

    losses = functional.sl_at_k(
        pos, neg, threshold=threshold, tau=0.2, tau_w=0.7,
        neg_log_weight=weight if weighted else None,
    )  # fmt: skip
    check(losses, value, pos, neg)


@pytest.mark.parametrize("omega", [1.5, 3.0, 150.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_drrl(shape, omega):
    pos, neg, margin, _ = scores(*shape)
    margin = (margin - 0.5).requires_grad_()

    def value(b):
        power = omega / (omega - 1)
        hinges = [0.1 + 3.0 * max(0.0, s - margin[b].item()) for s in neg[b].tolist()]
        norm = sum(h**power for h in hinges) ** (1 / power)
        hinge = max(0.0, 1 - pos[b].item())
        return hinge + shape[1] ** (-1 / power) * norm + margin[b].item()

    losses = functional.drrl(pos, neg, margin=margin, omega=omega, neg_weight=3.0, eps=0.1)
    check(losses, value, pos, neg, margin)


@pytest.mark.parametrize("shape", SHAPES)
def test_llpauc(shape):
    pos, neg, _, _ = scores(*shape, scale=3.0)
    names = ("a", "b", "g", "s_pos", "s_neg", "theta_a", "theta_b")
    values = (0.7, 0.2, -0.3, 0.6, 0.9, 0.4, 0.8)
    numbers = {
        name: torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for name, value in zip(names, values, strict=True)
    }

    def value(b):
        a, b_, g, s_pos, s_neg, theta_a, theta_b = (x.item() for x in numbers.values())

        def smooth(x):
            return softplus(5 * x) / 5

        y = sigmoid(pos[b].item())
        total = -s_pos - smooth(-((y - a) ** 2) + 2 * (1 + g) * y - s_pos) / 0.9
        ys = [sigmoid(s) for s in neg[b].tolist()]
        worst = [smooth((y - b_) ** 2 + 2 * (1 + g) * y - s_neg) for y in ys]
        total += s_neg + sum(worst) / len(worst) / 0.1
        return total - g**2 + theta_a * (a + g) - theta_b * (b_ - 1 - g)

    losses = functional.llpauc(pos, neg, alpha=0.9, beta=0.1, **numbers)
    check(losses, value, pos, neg, *numbers.values())


@pytest.mark.parametrize("n_pos", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_variational_bpr(shape, n_pos):
    _, neg, _, _ = scores(*shape, scale=3.0)
    pos = scores(shape[0], n_pos, seed=1, scale=3.0)[1]
    # the weights are constants: taken before the differences
    a, b = ((sign * x / c).detach() for sign, x, c in ((1, pos, 2.0), (-1, neg, 5.0)))
    a, b = (x.exp() / x.exp().sum(1, keepdim=True) for x in (a, b))

    def value(row):
        return sum(
            a[row, k].item() * b[row, j].item() * softplus(neg[row, j].item() - pos[row, k].item())
            for k in range(n_pos)
            for j in range(shape[1])
        )

    check(functional.variational_bpr(pos, neg, c_pos=2.0, c_neg=5.0), value, pos, neg)


# Adap-τ's scales


def test_user_scales_by_hand():
    # W(x e^x) = x: arguments e, 2e², −ln 2/2 and one below −1/e give W = 1, 2, −ln 2 and −1
    x = [math.e, 2 * math.e**2, -math.log(2) / 2]
    losses = torch.tensor([*x, -sum(x)], dtype=torch.float64)  # of mean 0
    want = torch.tensor([1 / math.e, 1 / math.e**2, 2.0, math.e], dtype=torch.float64)
    got = functional.user_scales(0.4 * losses + 9, common=7.0, beta=0.4)
    torch.testing.assert_close(got, 7 * want, rtol=1e-6, atol=0)


def test_common_scale_by_hand():
    # log(100/(2·5)) / (0.7 − 0.2) = 2 log 10
    got = functional.common_scale(0.7, 0.2, pairs=100, interactions=5)
    assert got == pytest.approx(2 * math.log(10))
    assert functional.common_scale(0.2, 0.7, pairs=100, interactions=5) is None
    assert functional.common_scale(0.7, 0.2, pairs=100, interactions=50) is None


def vectors(seed=0):
    g = torch.Generator().manual_seed(seed)
    U, V = (torch.randn(n, DIM, generator=g, dtype=torch.float64) for n in (N_USERS, N_ITEMS))
    return U, V


def cosine(x, y):
    x, y = x.tolist(), y.tolist()
    lengths = math.sqrt(sum(a * a for a in x)) * math.sqrt(sum(b * b for b in y))
    return sum(a * b for a, b in zip(x, y, strict=True)) / lengths


def history_of(u):
    return HISTORY.indices[HISTORY.indptr[u] : HISTORY.indptr[u + 1]].tolist()


def near_history(U, V):
    """Move users towards their items, so that positives lie higher than the rest."""
    for u in range(N_USERS):
        if history_of(u):
            U[u] += 2 * V[history_of(u)].mean(0)
    return U, V


def test_adap_tau_takes_its_scales_from_vectors_and_losses():
    U, V = near_history(*vectors())
    loss = AdapTau(AdapTauConfig(tau=0.5, warm_up_epochs=2), history=HISTORY, n_items=N_ITEMS)
    users = torch.tensor([1, 0, 1])
    pos, neg, _, _ = scores(3, 4)
    for epoch in (0, 1):
        loss.begin_epoch(epoch, (U, V))
        assert loss.pos_scale == 2
        assert (loss.user_scale == 2).all()
        for _ in range(2):  # the same batch twice: means stay
            loss(pos, neg, users=users).backward()
            loss.after_backward()
    loss.begin_epoch(2, (U, V))

    active = [u for u in range(N_USERS) if history_of(u)]
    positives = [cosine(U[u], V[i]) for u in active for i in history_of(u)]
    every = [cosine(U[u], V[i]) for u in active for i in range(N_ITEMS)]
    gap = sum(positives) / len(positives) - sum(every) / len(every)
    common = math.log(len(active) * N_ITEMS / (2 * len(positives))) / gap
    assert loss.pos_scale.item() == pytest.approx(common, rel=1e-5)

    rows = [math.log(sum(math.exp(s) for s in neg[b].tolist())) - pos[b].item() for b in range(3)]
    losses = torch.tensor([rows[1], (rows[0] + rows[2]) / 2], dtype=torch.float64)  # users 0, 1
    want = functional.user_scales(losses, common=common, beta=1.0)
    torch.testing.assert_close(loss.user_scale[:2].double(), want, rtol=1e-5, atol=0)
    assert loss.user_scale[2:].tolist() == pytest.approx([common, common])  # not seen
    assert loss.loss_counts.sum() == 0  # the epoch begins anew


# histories


def histories(seed=0):
    return Histories(HISTORY, N_ITEMS, torch.Generator().manual_seed(seed))


def test_scores_of_the_interactions():
    U, V = vectors()
    want = [cosine(U[u], V[i]) for u in range(N_USERS) for i in history_of(u)]
    got = histories().scores((U, V), cosine=True)
    assert got.tolist() == pytest.approx(want)
    got = histories().scores((U, V), cosine=False)
    assert got[3].item() == pytest.approx(float(U[1] @ V[5]))


@pytest.mark.parametrize("chunk", [2**21, 3])
@pytest.mark.parametrize("k", [1, 2, 5, 100])
def test_kth_scores(k, chunk, monkeypatch):
    monkeypatch.setattr("contrarec.losses.sl_at_k._CHUNK", chunk)
    (U, V), log = vectors(), histories()
    got = kth_scores(log, (U, V), k, samples=3, stream=8)
    drawn = log.negatives(torch.arange(N_USERS), 3, 8, log.gaps()).tolist()
    for u in range(N_USERS):
        pool = sorted((cosine(U[u], V[i]) for i in history_of(u) + drawn[u]), reverse=True)
        assert got[u].item() == pytest.approx(pool[min(k, len(pool)) - 1])


# popularity vectors


def test_buckets_are_the_numbers_of_interactions():
    loss = PopularityLoss(history=HISTORY, n_items=N_ITEMS, dim=2, rng=0).popularity
    # users have 1, 3, 2, 0 interactions; items 2, 1, 1, 0, 0, 2
    assert loss.user_bucket.tolist() == [1, 3, 2, 0]
    assert loss.item_bucket.tolist() == [2, 1, 1, 0, 0, 2]
    assert loss.user_vectors.shape == (4, 2)
    assert loss.item_vectors.shape == (3, 2)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("discount", ["margin", "scale"])
def test_popularity_losses(discount, frozen):
    config = PopularityConfig(discount=discount, tau=0.3, tau_pop=0.4, pop_weight=0.2)
    loss = PopularityLoss(config, history=HISTORY, n_items=N_ITEMS, dim=3, rng=0).double()
    loss.begin_epoch(5 if frozen else 4, vectors())
    users, pos_items = torch.tensor([1, 3, 1]), torch.tensor([2, 4, 0])
    neg_items = torch.tensor([[0, 1], [5, 5], [3, 4]])
    pos, neg, _, weight = scores(3, 2)
    p, q = loss.popularity.user_vectors.detach(), loss.popularity.item_vectors.detach()
    user_bucket, item_bucket = [1, 3, 2, 0], [2, 1, 1, 0, 0, 2]

    def value(b):
        u, items = users[b].item(), [pos_items[b].item(), *neg_items[b].tolist()]
        w = [1.0, *weight[b].exp().tolist()]
        vecs = [q[item_bucket[i]] for i in items]
        short = [sigmoid(float(p[user_bucket[u]] @ v)) for v in vecs]
        s = [pos[b].item(), *neg[b].tolist()]
        if discount == "margin":
            s[0] = math.cos(min(math.acos(s[0]) + 1 - short[0], math.pi))
        else:
            s = [x * c for x, c in zip(s, short, strict=True)]
        e = [w_j * math.exp(x / 0.3) for w_j, x in zip(w, s, strict=True)]
        total = -0.8 * math.log(e[0] / sum(e))
        if not frozen:
            cos = [cosine(p[user_bucket[u]], v) for v in vecs]
            e = [w_j * math.exp(c / 0.4) for w_j, c in zip(w, cos, strict=True)]
            total -= 0.2 * math.log(e[0] / sum(e))
        return total

    losses = loss.per_row(
        pos, neg, users=users, pos_items=pos_items, neg_items=neg_items, neg_log_weight=weight
    )
    check(losses, value, pos, neg)


def test_popularity_vectors_learn_from_their_own_loss_alone():
    """The shortcut is a constant: the model's loss would make it whatever suits the model."""
    shared = {"history": HISTORY, "n_items": N_ITEMS, "dim": 3, "rng": 0}
    rows = {
        "users": torch.tensor([1, 0]),
        "pos_items": torch.tensor([2, 0]),
        "neg_items": torch.tensor([[0, 1], [5, 5]]),
    }
    pos, neg, _, _ = scores(2, 2)
    for discount in ("margin", "scale"):
        grads = {}
        for share in (0.0, 0.5, 1.0):
            config = PopularityConfig(discount=discount, pop_weight=share)
            loss = PopularityLoss(config, **shared).double()
            loss(pos, neg, **rows).backward()
            grads[share] = [p.grad for p in loss.learned()]
        assert all((grad == 0).all() for grad in grads[0.0])
        for half, whole in zip(grads[0.5], grads[1.0], strict=True):
            assert whole.abs().sum() > 0
            torch.testing.assert_close(half, 0.5 * whole)


# Variational BPR


def test_variational_bpr_scores_what_it_draws():
    (U, V), pos = vectors(), torch.tensor([0.3, -0.2], dtype=torch.float64)
    neg = torch.tensor([[0.1, 0.5], [0.0, 1.0]], dtype=torch.float64)
    U.requires_grad_()
    loss = VariationalBPR(VariationalBPRConfig(n_pos=3), history=HISTORY, n_items=N_ITEMS, rng=0)
    users = torch.tensor([1, 1])
    drawn = loss.histories.positives(users, 2, loss.step)
    more = torch.stack([torch.stack([U[1] @ V[i] for i in row]) for row in drawn.tolist()])
    want = functional.variational_bpr(torch.cat([pos[:, None], more], 1), neg, c_pos=4.0, c_neg=4.0)
    got = loss.per_row(pos, neg, users=users, outputs=(U, V))
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(
        torch.autograd.grad(got.sum(), U)[0], torch.autograd.grad(want.sum(), U)[0]
    )
