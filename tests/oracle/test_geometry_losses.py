"""Losses without negatives against loops in plain Python, values and gradients, in float64."""

import math

import numpy as np
import pytest
import torch

from contrarec.losses import MAWU, UCTRL, DirectAU, DirectAUConfig, History, MAWUConfig, UCTRLConfig
from contrarec.losses.functional import alignment, geometry, margin_alignment, uniformity

N_USERS, N_ITEMS, DIM, B = 5, 6, 3, 7


def unit(x):
    length = math.sqrt(sum(v * v for v in x))
    return [v / length for v in x]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def naive_uniformity(rows, t=2.0):
    rows = [unit(row) for row in rows]
    total, pairs = 0.0, 0
    for a in range(len(rows)):
        for b in range(a):
            square = sum((x - y) ** 2 for x, y in zip(rows[a], rows[b], strict=True))
            total += math.exp(-t * square)
            pairs += 1
    return math.log(total / pairs)


def batch(seed=0):
    """Random tables and a batch with repeated users and items; cosines of its pairs."""
    g = torch.Generator().manual_seed(seed)
    U = torch.randn(N_USERS, DIM, generator=g, dtype=torch.float64, requires_grad=True)
    V = torch.randn(N_ITEMS, DIM, generator=g, dtype=torch.float64, requires_grad=True)
    users = torch.tensor([0, 1, 1, 2, 3, 4, 4])
    items = torch.tensor([5, 0, 2, 2, 1, 3, 5])
    pos = torch.cosine_similarity(U[users], V[items])
    rows = {"users": users, "pos_items": items, "outputs": (U, V)}
    return pos, torch.zeros(B, 1, dtype=torch.float64), rows


def gathered(rows):
    U, V = rows["outputs"]
    return U[rows["users"]].tolist(), V[rows["pos_items"]].tolist()


@pytest.mark.parametrize("rows", [1, 3, 128])
@pytest.mark.parametrize("t", [2.0, 0.5])
@pytest.mark.parametrize("n", [2, 3, 8])
def test_uniformity(n, t, rows, monkeypatch):
    monkeypatch.setattr(geometry, "_ROWS", rows)
    x = torch.randn(n, DIM, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    assert uniformity(x, t=t).item() == pytest.approx(naive_uniformity(x.tolist(), t), rel=1e-12)
    torch.autograd.gradcheck(lambda x: uniformity(x, t=t), x.requires_grad_())


@pytest.mark.parametrize("rows", [1, 2, 128])
def test_a_narrow_potential_underflows_nowhere(rows, monkeypatch):
    monkeypatch.setattr(geometry, "_ROWS", rows)
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], requires_grad=True)
    value = uniformity(x, t=1000.0)  # e^−2000 for the four nearest pairs of six
    value.backward()
    assert value.item() == pytest.approx(-2000 + math.log(4 / 6), rel=1e-6)
    assert x.grad.isfinite().all()


def test_uniformity_of_few_by_hand():
    # three pairs of four rows e1, e1, −e1, e2: squared distances 0, 4, 2, 4, 2, 2
    x = torch.tensor([[3.0, 0.0], [1.0, 0.0], [-2.0, 0.0], [0.0, 5.0]])
    expected = math.log((1 + 2 * math.exp(-8) + 3 * math.exp(-4)) / 6)
    assert uniformity(x).item() == pytest.approx(expected, rel=1e-6)


def test_alignments_have_right_gradients():
    g = torch.Generator().manual_seed(3)
    pos = (1.8 * torch.rand(6, generator=g, dtype=torch.float64) - 0.9).requires_grad_()
    margin = (0.4 * torch.rand(6, generator=g, dtype=torch.float64) + 0.01).requires_grad_()
    torch.autograd.gradcheck(alignment, pos)
    torch.autograd.gradcheck(margin_alignment, (pos, margin))


def test_directau():
    pos, neg, rows = batch()
    users, items = gathered(rows)
    pairs = zip(users, items, strict=True)
    near = sum(sum((x - y) ** 2 for x, y in zip(unit(u), unit(i), strict=True)) for u, i in pairs)
    spread = naive_uniformity(users) + naive_uniformity(items)
    loss = DirectAU(DirectAUConfig(gamma=0.7))
    assert loss(pos, neg, **rows).item() == pytest.approx(near / B + 0.7 * spread / 2, rel=1e-12)


def test_mawu():
    pos, neg, rows = batch(1)
    with torch.no_grad():  # one pair so wide that its angle stops at π
        pos[0] = -0.999
    users, items = gathered(rows)
    loss = MAWU(MAWUConfig(gamma_user=1.5, gamma_item=0.4), n_users=N_USERS, n_items=N_ITEMS)
    loss = loss.double()
    with torch.no_grad():
        loss.users.copy_(torch.linspace(0, 0.8, N_USERS))
        loss.items.copy_(torch.linspace(0.9, 0.1, N_ITEMS))
    near = 0.0
    for b in range(B):
        m = loss.users[rows["users"][b]].item() + loss.items[rows["pos_items"][b]].item()
        angle = math.acos(pos[b].item()) + 1 - 1 / (1 + math.exp(-m))
        near -= math.cos(min(angle, math.pi)) / B
    spread = 1.5 * naive_uniformity(users) + 0.4 * naive_uniformity(items)
    value = loss(pos, neg, **rows)
    assert value.item() == pytest.approx(near + spread, rel=1e-12)
    value.backward()
    assert loss.users.grad[0] == 0  # user 0 is in that pair alone
    assert (loss.users.grad[1:] < 0).all()  # a smaller margin lowers the loss


USER_ROWS = [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]]


def uctrl(**settings):
    indices = [i for row in USER_ROWS for i in row]
    history = History(np.cumsum([0, *map(len, USER_ROWS)]), np.array(indices))
    about = {"n_users": N_USERS, "n_items": N_ITEMS, "dim": DIM, "history": history, "rng": 0}
    return UCTRL(UCTRLConfig(**settings), **about).double()


def test_uctrl_knows_the_popular():
    loss = uctrl()
    # counts of users 1, 2, 3, 6, 6: the fourth of five is the threshold, and no more than it
    assert loss.popular_users.tolist() == [False] * 5
    # of items 5, 4, 3, 2, 2, 2, sorted 2 2 2 3 4 5: int(.8·6) = 4, the fourth is 3
    assert loss.popular_items.tolist() == [True, True, False, False, False, False]
    # eight users without any interaction are not among those of whom 80 % have no more than one
    sparse = History(np.array([0] * 9 + [1, 3]), np.array([0, 0, 1]))
    loss = UCTRL(n_users=10, n_items=N_ITEMS, dim=DIM, history=sparse, rng=0)
    assert loss.popular_users.tolist() == [False] * 9 + [True]


def naive_uctrl(loss, pos, rows):
    """The formula by loops over rows, in torch for its gradients, with its constants detached."""
    U, V = rows["outputs"]
    near, related, left, right, users, items = 0, 0, [], [], [], []
    for b in range(B):
        u, i = rows["users"][b], rows["pos_items"][b]
        users.append(U[u] / U[u].norm())
        items.append(V[i] / V[i].norm())
        r_u = users[-1].detach() @ loss.users[int(loss.popular_users[u])]
        r_i = items[-1].detach() @ loss.items[int(loss.popular_items[i])]
        left.append(r_u / r_u.norm())
        right.append(r_i / r_i.norm())
        w = 1 / (1 + torch.exp(-(left[-1] * right[-1]).sum())).detach()
        near = near + (2 - 2 * pos[b]) / w / B
        related = related + (left[-1] - right[-1]).square().sum() / B

    def spread(rows):
        pairs = [(a, b) for a in range(B) for b in range(a)]
        potentials = [torch.exp(-2 * (rows[a] - rows[b]).square().sum()) for a, b in pairs]
        return torch.log(sum(potentials) / len(pairs))

    gamma, gamma_relation = loss.config.gamma, loss.config.gamma_relation
    value = near + gamma * (spread(users) + spread(items)) / 2
    return value + related + gamma_relation * (spread(left) + spread(right)) / 2


def test_uctrl_value_and_gradients():
    loss = uctrl(gamma=0.6, gamma_relation=0.3)
    loss.popular_users[3] = True
    pos, neg, rows = batch(2)
    parameters = (*rows["outputs"], loss.users, loss.items)
    got, want = loss(pos, neg, **rows), naive_uctrl(loss, pos, rows)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
    for a, b in zip(
        torch.autograd.grad(got, parameters, retain_graph=True),
        torch.autograd.grad(want, parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
