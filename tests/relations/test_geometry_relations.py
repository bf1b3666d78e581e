"""Relations of the losses without negatives."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrarec.errors import ConfigError
from contrarec.losses import MAWU, UCTRL, DirectAU, DirectAUConfig, History, MAWUConfig
from contrarec.losses.functional import alignment, margin_alignment, uniformity

N_USERS, N_ITEMS, DIM, B = 5, 6, 4, 8
HISTORY = History(np.arange(0, 2 * N_USERS + 1, 2), np.tile([0, 3], N_USERS))
SEEDS = st.integers(0, 10_000)
quick = settings(max_examples=15, deadline=None)


def batch(seed, scale=1.0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    U, V = (
        (scale * torch.randn(n, DIM, generator=g, dtype=dtype)).requires_grad_()
        for n in (N_USERS, N_ITEMS)
    )
    users = torch.randint(0, N_USERS, (B,), generator=g)
    items = torch.randint(0, N_ITEMS, (B,), generator=g)
    rows = {"users": users, "pos_items": items, "outputs": (U, V)}
    return torch.cosine_similarity(U[users], V[items]), torch.zeros(B, 1, dtype=dtype), rows


def make(name):
    about = {"n_users": N_USERS, "n_items": N_ITEMS, "dim": DIM, "history": HISTORY, "rng": 0}
    return {"directau": DirectAU, "mawu": MAWU, "uctrl": UCTRL}[name](**about)


@pytest.mark.parametrize("n", [2, 3, 50])
def test_uniformity_at_its_ends(n):
    assert uniformity(torch.ones(n, 3)).item() == pytest.approx(0, abs=1e-5)
    assert uniformity(torch.eye(n)).item() == pytest.approx(-4, rel=1e-6)
    assert uniformity(torch.tensor([[1.0], [-5.0]]), t=3.0).item() == pytest.approx(-12, rel=1e-6)
    assert uniformity(torch.randn(1, 3)).item() == 0


@quick
@given(SEEDS)
def test_uniformity_knows_directions_alone(seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(B, DIM, generator=g, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(DIM, DIM, generator=g, dtype=torch.float64)).Q
    lengths = torch.rand(B, 1, generator=g, dtype=torch.float64) + 0.1
    base = uniformity(x)
    assert -8 <= base.item() <= 0
    for y in (x @ turn, lengths * x, -x, x[torch.randperm(B, generator=g)]):
        torch.testing.assert_close(uniformity(y), base)


@quick
@given(SEEDS)
def test_without_uniformity_directau_is_alignment(seed):
    pos, neg, rows = batch(seed)
    torch.testing.assert_close(
        DirectAU(DirectAUConfig(gamma=0))(pos, neg, **rows), alignment(pos).mean()
    )


@quick
@given(SEEDS, st.sampled_from([0.0, 0.4, 2.0]))
def test_mawu_without_margin_is_half_of_directau(seed, gamma):
    pos, neg, rows = batch(seed)
    loss = MAWU(
        MAWUConfig(gamma_user=gamma / 4, gamma_item=gamma / 4), n_users=N_USERS, n_items=N_ITEMS
    )
    torch.nn.init.constant_(loss.users, 40.0)  # 1 − sigmoid is 0
    direct = DirectAU(DirectAUConfig(gamma=gamma))(pos, neg, **rows)
    torch.testing.assert_close(loss(pos, neg, **rows), direct / 2 - 1, rtol=1e-6, atol=1e-6)


@quick
@given(SEEDS)
def test_a_margin_makes_alignment_harder(seed):
    pos = batch(seed)[0].detach().clamp(-0.99, 0.99)
    none, some, more = (margin_alignment(pos, torch.full_like(pos, m)) for m in (0, 0.2, 0.5))
    torch.testing.assert_close(none, alignment(pos) / 2 - 1)
    assert (none < some).all()
    assert (some <= more).all()


def test_mawu_keeps_its_parameters_in_range():
    pos, neg, rows = batch(0, dtype=torch.float32)
    loss = make("mawu")
    optimizer = torch.optim.SGD(loss.learned(), lr=100.0)
    loss(pos, neg, **rows).backward()
    optimizer.step()
    assert loss.users.max() > 1  # a smaller margin lowers the loss
    loss.after_backward()
    assert loss.users.max() == 1
    assert loss.users.min() >= 0


def test_uctrl_of_opposite_relations():
    """Relations of aligned pairs at angle π: every propensity is sigmoid(−1)."""
    loss = make("uctrl").double()
    with torch.no_grad():
        loss.users.copy_(torch.eye(DIM).expand(2, DIM, DIM))
        loss.items.copy_(-torch.eye(DIM).expand(2, DIM, DIM))
    x = torch.randn(N_USERS, DIM, generator=torch.Generator().manual_seed(0)).double()
    users = torch.arange(N_USERS)
    rows = {"users": users, "pos_items": users, "outputs": (x, torch.cat([x, x[:1]]))}
    pos = torch.full((N_USERS,), 0.5, dtype=torch.float64)  # as if they were less than aligned
    # 1 / sigmoid(−1) + U(x), and in the space of relations 4 + U(x)
    expected = (1 + math.e) + uniformity(x) + 4 + uniformity(x)
    torch.testing.assert_close(loss(pos, torch.zeros(N_USERS, 1), **rows), expected)


def test_uctrl_moves_each_half_by_its_own_part():
    """The matrices do not learn from the weighted alignment, nor the model from relations."""
    pos, neg, rows = batch(3)
    loss = make("uctrl").double()
    matrices = (loss.users, loss.items)
    base = torch.autograd.grad(loss(pos, neg, **rows), matrices, retain_graph=True)
    other = torch.autograd.grad(loss(pos * 0.3, neg, **rows), matrices, retain_graph=True)
    for a, b in zip(base, other, strict=True):
        torch.testing.assert_close(a, b)
    own = torch.autograd.grad(loss(pos, neg, **rows), rows["outputs"], retain_graph=True)
    free = make("uctrl").double()
    free.config = type(loss.config)(gamma_relation=7.0)
    for a, b in zip(own, torch.autograd.grad(free(pos, neg, **rows), rows["outputs"]), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", ["directau", "mawu", "uctrl"])
@pytest.mark.parametrize("case", ["zeros", "equal", "opposite", "huge", "one row"])
def test_extreme_vectors_stay_finite(name, case):
    loss, (_, neg, rows) = make(name), batch(4, dtype=torch.float32)
    users, items = rows["users"], rows["pos_items"]
    U, V = (x.detach() for x in rows["outputs"])
    if case == "zeros":
        U, V = torch.zeros_like(U), torch.zeros_like(V)
    elif case in ("equal", "opposite"):
        U, V = torch.ones_like(U), torch.ones_like(V)
        V = -V if case == "opposite" else V
    elif case == "huge":
        U, V = 1e18 * U, 1e18 * V
    else:
        users, items, neg = users[:1], items[:1], neg[:1]
    U, V = U.requires_grad_(), V.requires_grad_()
    pos = (torch.nn.functional.normalize(U)[users] * torch.nn.functional.normalize(V)[items]).sum(1)
    value = loss(pos, neg, users=users, pos_items=items, outputs=(U, V))
    assert math.isfinite(value.item())
    value.backward()
    for x in (U, V, *loss.learned()):
        assert x.grad is None or x.grad.isfinite().all()


@pytest.mark.parametrize("name", ["directau", "mawu", "uctrl"])
def test_what_is_missing_is_named(name):
    pos, neg, rows = batch(5, dtype=torch.float32)
    for missing in ("users", "pos_items", "outputs"):
        given = {key: value for key, value in rows.items() if key != missing}
        with pytest.raises(ConfigError, match=f"`{missing}` must be given with this loss"):
            make(name)(pos, neg, **given)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: alignment(torch.zeros(2, 1)), r"`pos` must be \[B\], got \(2, 1\)"),
        (lambda: margin_alignment(torch.zeros(2), torch.zeros(1)), r"got \(2,\) and \(1,\)"),
        (lambda: uniformity(torch.zeros(2)), r"`vectors` must be \[B, dim\], got \(2,\)"),
        (lambda: uniformity(torch.zeros(2, 2), t=0), "`t` must be positive, got 0."),
        (lambda: DirectAUConfig(gamma=-1), "`gamma` must not be negative, got -1.0."),
        (lambda: MAWUConfig(gamma_item=math.nan), "`gamma_item` must not be negative, got nan."),
        (lambda: UCTRL(n_items=2, dim=2), "`history` must be given with uCTRL, got None."),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
