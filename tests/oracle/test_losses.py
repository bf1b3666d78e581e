"""Losses against double loops in plain Python, values and gradients, in float64."""

import math

import pytest
import torch
from scipy.optimize import minimize

from contrarec.losses import AdvInfoNCE, AdvInfoNCEConfig, InfoNCE, InfoNCEConfig, functional

B, N = 5, 7
SHAPES = [(1, 1), (1, 7), (7, 1), (B, N)]


def scores(n_rows, n_neg, seed=0):
    g = torch.Generator().manual_seed(seed)
    pos = 2 * torch.rand(n_rows, generator=g, dtype=torch.float64) - 1
    neg = 2 * torch.rand(n_rows, n_neg, generator=g, dtype=torch.float64) - 1
    weight = torch.randn(n_rows, n_neg, generator=g, dtype=torch.float64)
    return pos.requires_grad_(), neg.requires_grad_(), weight


def check(losses, pos, neg, value_of, grad_of):
    """Compare `[B]` losses and, under unequal row weights, their gradients with naive ones.

    `value_of(pos_b, neg_b, b)` is a row's loss, `grad_of` its derivatives by pos and each neg.
    """
    upstream = torch.arange(1.0, len(losses) + 1, dtype=torch.float64)
    got_pos, got_neg = torch.autograd.grad(losses, (pos, neg), upstream)
    for b in range(len(losses)):
        row = (pos[b].item(), neg[b].tolist(), b)
        assert losses[b].item() == pytest.approx(value_of(*row), rel=1e-12, abs=1e-14)
        want_pos, want_neg = grad_of(*row)
        assert got_pos[b].item() == pytest.approx((b + 1) * want_pos, rel=1e-10, abs=1e-14)
        for j, want in enumerate(want_neg):
            assert got_neg[b, j].item() == pytest.approx((b + 1) * want, rel=1e-10, abs=1e-14)


@pytest.mark.parametrize("shape", SHAPES)
def test_bpr(shape):
    pos, neg, _ = scores(*shape)

    def value(p, row, _):
        return sum(-math.log(1 / (1 + math.exp(-(p - n)))) for n in row) / len(row)

    def grad(p, row, _):
        pull = [1 / (1 + math.exp(p - n)) / len(row) for n in row]
        return -sum(pull), pull

    check(functional.bpr(pos, neg), pos, neg, value, grad)


@pytest.mark.parametrize("include_positive", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("tau", [0.09, 0.75, 2.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_infonce(shape, tau, weighted, include_positive):
    pos, neg, weight = scores(*shape)
    log_weight = weight if weighted else None

    def terms(p, row, b):
        e_pos = math.exp(p / tau) if include_positive else 0.0
        w = [math.exp(x) for x in weight[b].tolist()] if weighted else [1.0] * len(row)
        e_neg = [w_j * math.exp(n / tau) for w_j, n in zip(w, row, strict=True)]
        return e_pos, e_neg, e_pos + sum(e_neg)

    def value(p, row, b):
        return -math.log(math.exp(p / tau) / terms(p, row, b)[2])

    def grad(p, row, b):
        e_pos, e_neg, total = terms(p, row, b)
        return (e_pos / total - 1) / tau, [e / total / tau for e in e_neg]

    losses = functional.infonce(
        pos, neg, tau=tau, neg_log_weight=log_weight, include_positive=include_positive
    )
    check(losses, pos, neg, value, grad)


def test_weight_gradient():
    pos, neg, weight = scores(B, N)
    weight.requires_grad_()
    losses = functional.infonce(pos, neg, tau=0.3, neg_log_weight=weight)
    (got,) = torch.autograd.grad(losses.sum(), weight)
    for b in range(B):
        e = [math.exp(weight[b, j].item() + neg[b, j].item() / 0.3) for j in range(N)]
        total = math.exp(pos[b].item() / 0.3) + sum(e)
        for j in range(N):
            assert got[b, j].item() == pytest.approx(e[j] / total, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-5, 0.1, 1.0, 30.0])
def test_kl_to_uniform(scale):
    log_p = (scale * scores(B, N)[2]).log_softmax(1)
    got = functional.kl_to_uniform(log_p)
    for b in range(B):
        naive = math.fsum(math.exp(x) * (x + math.log(N)) for x in log_p[b].tolist())
        assert got[b].item() == pytest.approx(naive, rel=1e-9, abs=1e-15)


def test_kl_keeps_its_digits_in_float32():
    """Near uniform the plain sum of p·log(N p) loses them all."""
    logits = 1e-3 * scores(B, 64)[2]
    exact = functional.kl_to_uniform(logits.log_softmax(1))
    single = functional.kl_to_uniform(logits.float().log_softmax(1))
    assert (single >= 0).all()
    torch.testing.assert_close(single.double(), exact, rtol=2e-3, atol=0)


@pytest.mark.parametrize("lam", [0.5, 3.0, 100.0])
def test_closed_form_penalty(lam):
    neg, tau = scores(B, N)[1].detach(), 0.5
    p = functional.closed_form_log_p(neg, tau=tau, lam=lam).exp()
    for b in range(B):
        weights = [math.exp(math.exp(x / tau) / lam) for x in neg[b].tolist()]
        for j in range(N):
            assert p[b, j].item() == pytest.approx(weights[j] / sum(weights), rel=1e-12)


@pytest.mark.parametrize("lam", [0.5, 3.0])
def test_closed_form_penalty_is_the_maximiser(lam):
    """Against a general optimiser over the simplex, which knows nothing of the formula."""
    neg, tau = scores(2, 4)[1].detach(), 0.5
    p = functional.closed_form_log_p(neg, tau=tau, lam=lam).exp()
    for b in range(2):
        gain = [math.exp(x / tau) for x in neg[b].tolist()]

        def cost(z, gain=gain):
            e = [math.exp(x) for x in z]
            q = [x / sum(e) for x in e]
            kl = sum(x * math.log(4 * x) for x in q)
            return lam * kl - sum(x * g for x, g in zip(q, gain, strict=True))

        best = minimize(cost, [0.0] * 4, method="BFGS", options={"gtol": 1e-9})
        got = cost(p[b].log().tolist())
        assert got == pytest.approx(best.fun, rel=1e-8)


def adversary(**settings):
    loss = AdvInfoNCE(
        AdvInfoNCEConfig(adv_dim=3, **settings), n_users=4, n_items=6, dim=5, rng=3
    ).double()
    g = torch.Generator().manual_seed(1)
    users = torch.tensor([0, 2, 2, 3])
    items = torch.randint(0, 6, (4, 5), generator=g)  # repeated items, as in a sampled batch
    vectors = tuple(torch.randn(n, 5, generator=g, dtype=torch.float64) for n in (4, 6))
    pos, neg, _ = scores(4, 5, seed=2)
    with torch.no_grad():  # far enough from zero that p is far from uniform
        for parameter in loss.parameters():
            parameter.mul_(2)
    return loss, pos, neg, {"users": users, "neg_items": items, "vectors": vectors}


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def naive_p(loss, batch, b):
    """The hardness of row b: a softmax of dot products, by loops."""
    u, row = batch["users"][b].item(), batch["neg_items"][b].tolist()
    if loss.config.hardness == "embedding":
        left = loss.hardness.users[u].tolist()
        right = [loss.hardness.items[j].tolist() for j in row]
    else:

        def layer(linear, x):
            rows = zip(linear.weight.tolist(), linear.bias.tolist(), strict=True)
            return [max(0.0, dot(w, x) + c) for w, c in rows]

        left = layer(loss.hardness.users, batch["vectors"][0][u].tolist())
        right = [layer(loss.hardness.items, batch["vectors"][1][j].tolist()) for j in row]
    e = [math.exp(dot(left, r)) for r in right]
    return [x / sum(e) for x in e]


def naive_loss(loss, pos, neg, batch):
    """`mean −log(e^{pos/τ} / (e^{pos/τ} + k_neg·N·Σ_j p_j e^{neg_j/τ}))`, exponents and all."""
    tau, total = loss.config.tau, 0.0
    for b in range(len(pos)):
        p = naive_p(loss, batch, b)
        e_pos = math.exp(pos[b].item() / tau)
        e_neg = sum(p[j] * math.exp(neg[b, j].item() / tau) for j in range(len(p)))
        total -= math.log(e_pos / (e_pos + loss.config.k_neg * len(p) * e_neg))
    return total / len(pos)


@pytest.mark.parametrize("k_neg", [1.0, 64.0])
@pytest.mark.parametrize("hardness", ["embedding", "mlp"])
def test_advinfonce_value_and_model_gradient(hardness, k_neg):
    loss, pos, neg, batch = adversary(hardness=hardness, k_neg=k_neg, tau=0.28)
    value = loss(pos, neg, **batch)
    assert value.item() == pytest.approx(naive_loss(loss, pos, neg, batch), rel=1e-12)
    got_pos, got_neg = torch.autograd.grad(value, (pos, neg))
    for b in range(4):
        p = naive_p(loss, batch, b)
        e = [k_neg * 5 * p[j] * math.exp((neg[b, j] - pos[b]).item() / 0.28) for j in range(5)]
        total = 1 + sum(e)
        assert got_pos[b].item() == pytest.approx(-sum(e) / total / 0.28 / 4, rel=1e-10)
        for j in range(5):
            assert got_neg[b, j].item() == pytest.approx(e[j] / total / 0.28 / 4, rel=1e-10)


def naive_penalty(loss, batch):
    hardness = loss.hardness
    if loss.config.hardness == "mlp":
        return 0.5 * sum(x * x for w in hardness.parameters() for x in w.flatten().tolist())
    total = 0.0
    for u, row in zip(batch["users"].tolist(), batch["neg_items"].tolist(), strict=True):
        total += dot(hardness.users[u].tolist(), hardness.users[u].tolist())
        for j in row:
            total += dot(hardness.items[j].tolist(), hardness.items[j].tolist())
    return 0.5 * total


@pytest.mark.parametrize("adv_l2", [0.0, 0.7])
@pytest.mark.parametrize("direction", ["max", "min"])
@pytest.mark.parametrize("hardness", ["embedding", "mlp"])
def test_adversary_steps_are_adam_on_the_naive_objective(hardness, direction, adv_l2):
    """Three steps, with gradients by finite differences and Adam written out."""
    loss, pos, neg, batch = adversary(
        hardness=hardness, direction=direction, adv_l2=adv_l2, adv_lr=0.05, tau=0.28, k_neg=8.0
    )
    twin, _, _, _ = adversary(hardness=hardness, tau=0.28, k_neg=8.0)
    sign = 1 if direction == "max" else -1

    def descended():
        penalty = adv_l2 * naive_penalty(twin, batch) / 4
        return penalty - sign * naive_loss(twin, pos, neg, batch)

    parameters = [p.detach().view(-1) for p in twin.parameters()]
    first = [torch.zeros_like(p) for p in parameters]
    second = [torch.zeros_like(p) for p in parameters]
    for t in (1, 2, 3):
        before = naive_loss(twin, pos, neg, batch)
        step = loss.adversary_step(pos, neg, **batch)
        assert step.loss.item() == pytest.approx(before, rel=1e-6)
        grads = []
        for p in parameters:
            grad = torch.zeros_like(p)
            for i in range(len(p)):
                value = p[i].item()
                p[i] = value + 1e-6
                above = descended()
                p[i] = value - 1e-6
                grad[i] = (above - descended()) / 2e-6
                p[i] = value
            grads.append(torch.where(grad.abs() < 1e-8, 0.0, grad))  # rows outside the batch
        for p, grad, m, v in zip(parameters, grads, first, second, strict=True):
            m.mul_(0.9).add_(0.1 * grad)
            v.mul_(0.999).add_(0.001 * grad**2)
            p -= 0.05 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    for got, want in zip(loss.parameters(), parameters, strict=True):
        torch.testing.assert_close(got.detach().view(-1), want, rtol=0, atol=1e-5)


def test_control_rows():
    """InfoNCE + k_neg, + random p, + popularity p: the same formula with a fixed p."""
    pos, neg, _ = scores(2, 3)
    users, items = torch.tensor([0, 1]), torch.tensor([[0, 1, 2], [3, 3, 1]])
    counts = [4, 1, 9, 0]
    for weights in ("uniform", "random", "popularity"):
        loss = InfoNCE(
            InfoNCEConfig(tau=0.5, k_neg=64.0, weights=weights, alpha=0.5),
            n_items=4,
            item_counts=torch.tensor(counts),
            rng=0,
        )
        got = loss(pos, neg, users=users, neg_items=items).item()
        log_p = loss.log_p(neg, users=users, neg_items=items)
        total = 0.0
        for b in range(2):
            p = [1 / 3] * 3
            if weights == "popularity":
                w = [max(counts[j], 1) ** 0.5 for j in items[b].tolist()]
                p = [x / sum(w) for x in w]
            elif weights == "random":
                p = log_p[b].exp().tolist()
                assert max(p) - min(p) > 0.05
            e_pos = math.exp(pos[b].item() / 0.5)
            e_neg = sum(p[j] * math.exp(neg[b, j].item() / 0.5) for j in range(3))
            total -= math.log(e_pos / (e_pos + 64 * 3 * e_neg)) / 2
        assert got == pytest.approx(total, rel=1e-6)
