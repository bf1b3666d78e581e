"""Debiasing losses against loops in plain Python, values and gradients, in float64."""

import math

import numpy as np
import pytest
import torch

from contrarec.losses import (
    BISER,
    IPS,
    MACR,
    PID,
    SAMREG,
    BISERConfig,
    CausE,
    CausEConfig,
    MACRConfig,
    PIDConfig,
    SAMREGConfig,
    functional,
)

N_USERS, N_ITEMS, DIM, B, N = 4, 6, 3, 5, 4
COUNTS = np.array([9, 1, 4, 4, 2, 0])
ABOUT = {"n_users": N_USERS, "n_items": N_ITEMS, "dim": DIM, "item_counts": COUNTS, "rng": 0}


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def bpr(p, row):
    return sum(-math.log(sigmoid(p - n)) for n in row) / len(row)


def batch(seed=0):
    """Random tables, a batch with repeated items, and its dot products."""
    g = torch.Generator().manual_seed(seed)
    U = torch.randn(N_USERS, DIM, generator=g, dtype=torch.float64, requires_grad=True)
    V = torch.randn(N_ITEMS, DIM, generator=g, dtype=torch.float64, requires_grad=True)
    users, pos_items = torch.tensor([0, 1, 1, 2, 3]), torch.tensor([0, 2, 1, 4, 0])
    neg_items = torch.randint(0, N_ITEMS, (B, N), generator=g)
    rows = {"users": users, "pos_items": pos_items, "neg_items": neg_items, "outputs": (U, V)}
    return *scores(rows), rows


def scores(rows):
    U, V = rows["outputs"]
    pos = (U[rows["users"]] * V[rows["pos_items"]]).sum(1)
    return pos, torch.einsum("bd,bnd->bn", U[rows["users"]], V[rows["neg_items"]])


def draw(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.0), (0.7, 0.0), (0.0, 0.3), (1e-3, 1e-3)])
@pytest.mark.parametrize("shape", [(1, 1), (5, 1), (1, 4), (5, 4)])
def test_macr_formula(shape, alpha, beta):
    n_rows, n_neg = shape
    given = [draw(n_rows, seed=1), draw(*shape, seed=2), draw(n_rows, seed=3)]
    given += [draw(n_rows, seed=4), draw(*shape, seed=5)]
    got = functional.macr(*given, alpha=alpha, beta=beta)
    pos, neg, user, pos_item, neg_item = (x.tolist() for x in given)
    for b in range(n_rows):
        u = user[b]
        total = -math.log(sigmoid(pos[b] * sigmoid(pos_item[b]) * sigmoid(u)))
        total -= alpha * math.log(sigmoid(pos_item[b]))
        total -= beta * (math.log(sigmoid(u)) + math.log(1 - sigmoid(u)))
        for s, i in zip(neg[b], neg_item[b], strict=True):
            total -= math.log(1 - sigmoid(s * sigmoid(i) * sigmoid(u))) / n_neg
            total -= alpha * math.log(1 - sigmoid(i)) / n_neg
        assert got[b].item() == pytest.approx(total, rel=1e-12)
    torch.autograd.gradcheck(lambda *x: functional.macr(*x, alpha=alpha, beta=beta), given)


def test_macr_scores_the_heads_of_the_right_rows():
    pos, neg, rows = batch(1)
    U, V = rows["outputs"]
    loss = MACR(MACRConfig(alpha=0.5, beta=0.2), **ABOUT).double()
    h_user, h_item = loss.user_head.tolist(), loss.item_head.tolist()
    user = torch.tensor([dot(h_user, U[u].tolist()) for u in rows["users"]])
    pos_item = torch.tensor([dot(h_item, V[i].tolist()) for i in rows["pos_items"]])
    neg_item = [[dot(h_item, V[j].tolist()) for j in row] for row in rows["neg_items"]]
    want = functional.macr(
        pos, neg, user.double(), pos_item.double(), torch.tensor(neg_item).double(),
        alpha=0.5, beta=0.2,
    ).mean()  # fmt: skip
    torch.testing.assert_close(loss(pos, neg, **rows), want, rtol=1e-6, atol=0)
    # heads and vectors both learn from it
    grads = torch.autograd.grad(loss(pos, neg, **rows), (*loss.learned(), U, V))
    assert all(grad.abs().sum() > 0 for grad in grads)


def test_macr_recommends_what_its_formula_says():
    U, V = batch(2)[2]["outputs"]
    loss = MACR(MACRConfig(c=1.7), **ABOUT).double()
    users, items = loss.final_vectors(U, V)
    for u in range(N_USERS):
        for i in range(N_ITEMS):
            s, v = dot(U[u].tolist(), V[i].tolist()), V[i].tolist()
            want = (s - 1.7) * sigmoid(dot(loss.item_head.tolist(), v))
            assert (users[u] @ items[i]).item() == pytest.approx(want, rel=1e-10)


def test_squared_correlation_and_sam_reg():
    pos, neg = draw(6, seed=7), draw(6, 3, seed=8)
    popularity = torch.tensor([0.1, 1.0, 0.3, 0.3, 0.7, 0.2], dtype=torch.float64)
    success = [
        sum(sigmoid(p - n) for n in row) / 3
        for p, row in zip(pos.tolist(), neg.tolist(), strict=True)
    ]
    r = np.corrcoef(popularity.numpy(), success)[0, 1]
    ranking = sum(bpr(p, row) for p, row in zip(pos.tolist(), neg.tolist(), strict=True)) / 6
    got = functional.squared_correlation(popularity, torch.tensor(success, dtype=torch.float64))
    assert got.item() == pytest.approx(r * r, rel=1e-7)
    value = functional.sam_reg(pos, neg, popularity, weight=0.3)
    assert value.item() == pytest.approx(0.7 * ranking + 0.3 * r * r, rel=1e-7)
    torch.autograd.gradcheck(
        lambda p, n: functional.sam_reg(p, n, popularity, weight=0.3), (pos, neg)
    )
    items = torch.tensor([1, 0, 2, 3, 4, 5])
    loss = SAMREG(SAMREGConfig(weight=0.3), **ABOUT).double()
    shares = torch.tensor([1, 9, 4, 4, 2, 0], dtype=torch.float64) / 9
    want = functional.sam_reg(pos, neg, shares, weight=0.3)
    torch.testing.assert_close(loss(pos, neg, pos_items=items), want, rtol=1e-6, atol=0)


@pytest.mark.parametrize("floor", [0.1, 0.5, 1.0])
def test_self_unbiased(floor):
    pos, neg = draw(5, seed=1), draw(5, 3, seed=2)
    with torch.no_grad():
        pos[0] = -4.0  # below the floor
    got = functional.self_unbiased(pos, neg, floor=floor)
    grad_pos, grad_neg = torch.autograd.grad(got.sum(), (pos, neg))
    for b in range(5):
        y = sigmoid(pos[b].item())
        k = 1 / max(y, floor)
        others = [sigmoid(n) for n in neg[b].tolist()]
        want = k * (1 - y) ** 2 + (1 - k) * y**2 + sum(z * z for z in others) / 3
        assert got[b].item() == pytest.approx(want, rel=1e-12)
        slope = (-2 * k * (1 - y) + 2 * (1 - k) * y) * y * (1 - y)  # k is a constant
        assert grad_pos[b].item() == pytest.approx(slope, rel=1e-10)
        for j, z in enumerate(others):
            assert grad_neg[b, j].item() == pytest.approx(2 * z * z * (1 - z) / 3, rel=1e-10)


def test_ips_by_hand():
    # 1/9, 1, 1/4, 1/4, 1/2 and 1 for the item without any: the median is 3/8
    loss = IPS(**ABOUT).double()
    want = torch.tensor([8 / 27, 1, 2 / 3, 2 / 3, 1, 1], dtype=torch.float64)
    torch.testing.assert_close(loss.weights, want, rtol=1e-6, atol=0)
    pos, neg, rows = batch(3)
    total = sum(
        want[rows["pos_items"][b]].item() * bpr(pos[b].item(), neg[b].tolist()) for b in range(B)
    )
    assert loss(pos, neg, **rows).item() == pytest.approx(total / B, rel=1e-6)


def test_cause():
    pos, neg, rows = batch(4)
    U, V = rows["outputs"]
    loss = CausE(CausEConfig(penalty=0.3, share=0.9), **ABOUT).double()
    control = loss.control.tolist()
    chosen = loss.in_control(rows["users"], rows["pos_items"]).tolist()
    assert set(chosen) == {True, False}

    def apart(i):
        a, b = V[i].tolist(), control[i]
        return 2 - 2 * dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))

    ranking = square = 0.0
    for b in range(B):
        u = U[rows["users"][b]].tolist()
        i, row = rows["pos_items"][b].item(), rows["neg_items"][b].tolist()
        table = control if chosen[b] else V.tolist()
        ranking += bpr(dot(u, table[i]), [dot(u, table[j]) for j in row]) / B
        square += apart(i) + sum(apart(j) for j in row) / N
    value = loss(pos, neg, **rows)
    assert value.item() == pytest.approx(ranking + 0.3 * math.sqrt(square), rel=1e-9)
    grads = torch.autograd.grad(value, (U, V, loss.control))
    assert all(grad.abs().sum() > 0 for grad in grads)


def test_the_control_sample_has_equal_shares_of_all_items():
    """20,000 users a popular item, 2,000 a rare one: .1·n̄ of each within 5 standard errors."""
    n_users, counts = 20_000, np.array([20_000, 2_000, 500, 100])
    loss = CausE(n_users=n_users, n_items=4, dim=2, item_counts=counts, rng=1)
    wanted = 0.1 * counts.mean()  # 565
    for i, count in enumerate(counts):
        users = torch.arange(count)
        found = loss.in_control(users, torch.full((count,), i)).sum().item()
        expected = min(wanted, count)
        spread = math.sqrt(expected * (1 - expected / count))
        assert abs(found - expected) <= 5 * spread
    again = loss.in_control(torch.arange(100), torch.zeros(100, dtype=torch.long))
    assert torch.equal(again, loss.in_control(torch.arange(100), torch.zeros(100).long()))


def test_pid():
    _, _, rows = batch(5)
    U, V = rows["outputs"]
    loss = PID(PIDConfig(alpha=0.6), **ABOUT).double()
    with torch.no_grad():
        loss.taste.copy_(torch.linspace(-1, 1, N_USERS))
        loss.bias.fill_(0.3)
    popularity = [1.0, 0.25, 0.75, 0.75, 0.5, 0.0]  # ranks 4, 1, 3, 3, 2, 0 of five counts
    rows["outputs"] = loss.propagate(lambda: (U, V))
    pos, neg = scores(rows)
    w, bias = loss.probe.tolist(), loss.bias.item()
    error = [(sigmoid(dot(w, V[i].tolist()) + bias) - popularity[i]) ** 2 for i in range(N_ITEMS)]
    ranking = hidden = 0.0
    for b in range(B):
        u, i = rows["users"][b], rows["pos_items"][b].item()
        taste = loss.taste[u].item()
        s = [
            dot(U[u].tolist(), V[j].tolist()) + taste * popularity[j]
            for j in (i, *rows["neg_items"][b].tolist())
        ]
        ranking += bpr(s[0], s[1:]) / B
        hidden += error[i] / B + sum(error[j] for j in rows["neg_items"][b].tolist()) / (B * N)
    value = loss(pos, neg, **rows)
    assert value.item() == pytest.approx(0.6 * ranking + 0.4 * hidden, rel=1e-6)

    # the probe goes against the error, the vectors with it
    guess = torch.sigmoid(V @ loss.probe + loss.bias)
    errors = (guess - torch.tensor(popularity, dtype=torch.float64)).square()
    hidden = errors[rows["pos_items"]].mean() + errors[rows["neg_items"]].mean()
    rank = functional.bpr(pos, neg).mean()
    by_hidden = torch.autograd.grad(hidden, (loss.probe, loss.bias, V), retain_graph=True)
    by_rank = torch.autograd.grad(rank, (V, U, loss.taste), retain_graph=True)
    got = torch.autograd.grad(value, (loss.probe, loss.bias, V, U, loss.taste))
    wanted = (
        0.4 * by_hidden[0], 0.4 * by_hidden[1], 0.6 * by_rank[0] - 0.4 * by_hidden[2],
        0.6 * by_rank[1], 0.6 * by_rank[2],
    )  # fmt: skip
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)
    final = loss.final_vectors(U, V)
    assert final[0] is U  # popularity has no part in recommending
    assert final[1] is V


def test_biser():
    pos, neg, rows = batch(6)
    loss = BISER(BISERConfig(weight=0.7, floor=0.2), **ABOUT).double()
    with torch.no_grad():
        loss.users.mul_(3)
    total = 0.0

    def alone(p, row):
        y = sigmoid(p)
        k = 1 / max(y, 0.2)
        return k * (1 - y) ** 2 + (1 - k) * y * y + sum(sigmoid(n) ** 2 for n in row) / len(row)

    def second(b, j):
        return dot(loss.users[rows["users"][b]].tolist(), loss.items[j].tolist())

    slopes = []
    for b in range(B):
        p, q = pos[b].item(), second(b, rows["pos_items"][b])
        total += alone(p, neg[b].tolist()) + alone(q, [second(b, j) for j in rows["neg_items"][b]])
        y, z = sigmoid(p), sigmoid(q)
        total += 0.7 * 2 * (y - z) ** 2
        k = 1 / max(y, 0.2)
        slope = -2 * k * (1 - y) + 2 * (1 - k) * y + 0.7 * 2 * (y - z)  # each is drawn once
        slopes.append(slope * y * (1 - y) / B)
    value = loss(pos, neg, **rows)
    assert value.item() == pytest.approx(total / B, rel=1e-9)
    (got,) = torch.autograd.grad(value, pos, retain_graph=True)
    assert got.tolist() == pytest.approx(slopes, rel=1e-9)
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(value, (loss.users, loss.items)))
