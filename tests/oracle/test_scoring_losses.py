"""Margin losses and variants of the softmax loss against loops in plain Python, in float64."""

import math

import pytest
import torch

from contrarec.errors import ConfigError
from contrarec.losses import LOSSES, functional

SHAPES = [(1, 1), (1, 7), (7, 1), (5, 7)]
USERS = [3, 1, 3, 3, 1, 0, 8]


def scores(n_rows, n_neg, seed=0):
    g = torch.Generator().manual_seed(seed)
    pos = 2 * torch.rand(n_rows, generator=g, dtype=torch.float64) - 1
    neg = 2 * torch.rand(n_rows, n_neg, generator=g, dtype=torch.float64) - 1
    weight = torch.randn(n_rows, n_neg, generator=g, dtype=torch.float64)
    return pos.requires_grad_(), neg.requires_grad_(), weight


def agree(function, value_of, pos, neg):
    """Values against the naive ones, gradients against finite differences of the naive ones.

    `value_of(pos, neg)` takes lists and returns the list of the rows' losses.
    """
    losses = function(pos, neg)
    naive = value_of(pos.tolist(), neg.tolist())
    assert losses.tolist() == pytest.approx(naive, rel=1e-12, abs=1e-13)
    upstream = torch.arange(1.0, len(losses) + 1, dtype=torch.float64)
    grads = torch.autograd.grad(losses, (pos, neg), upstream)
    for x, grad in zip((pos, neg), grads, strict=True):
        flat = x.detach().clone().view(-1)

        def total(i, step, x=x, flat=flat):
            moved = flat.clone()
            moved[i] += step
            moved = moved.view(x.shape).tolist()
            rows = value_of(*((moved, neg.tolist()) if x is pos else (pos.tolist(), moved)))
            return sum((b + 1) * row for b, row in enumerate(rows))

        for i, got in enumerate(grad.view(-1).tolist()):
            want = (total(i, 1e-6) - total(i, -1e-6)) / 2e-6
            assert got == pytest.approx(want, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("margin", [-0.2, 0.4])
@pytest.mark.parametrize("shape", SHAPES)
def test_ccl(shape, margin):
    def value(pos, neg):
        return [
            max(0, 1 - p) + 7.0 * sum(max(0, n - margin) for n in row) / len(row)
            for p, row in zip(pos, neg, strict=True)
        ]

    pos, neg, _ = scores(*shape)
    agree(lambda p, n: functional.ccl(p, n, margin=margin, neg_weight=7.0), value, pos, neg)


@pytest.mark.parametrize("shape", SHAPES)
def test_mmcl(shape):
    terms = [(0.6, 3.0), (-0.1, 2.0), (0.3, 0.5)]

    def value(pos, neg):
        return [
            max(0, 1 - p) + sum(w * sum(max(0, n - m) for n in row) / len(row) for m, w in terms)
            for p, row in zip(pos, neg, strict=True)
        ]

    pos, neg, _ = scores(*shape)
    margins, weights = zip(*terms, strict=True)
    agree(lambda p, n: functional.mmcl(p, n, margins=margins, neg_weights=weights), value, pos, neg)


@pytest.mark.parametrize("margin", [0.3, 5.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_simce(shape, margin):
    def value(pos, neg):
        return [max(0, margin - p + max(row)) for p, row in zip(pos, neg, strict=True)]

    pos, neg, _ = scores(*shape)
    agree(lambda p, n: functional.simce(p, n, margin=margin), value, pos, neg)


@pytest.mark.parametrize("neg_power", [0.8, 1.0, 1.3])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_bsl(shape, weighted, neg_power):
    pos, neg, weight = scores(*shape)
    users, tau = USERS[: shape[0]], 0.3
    w = weight.exp().tolist() if weighted else torch.ones(shape).tolist()

    def value(pos, neg):
        losses = []
        for b, row in enumerate(neg):
            mine = [math.exp(p / tau) for p, u in zip(pos, users, strict=True) if u == users[b]]
            top = sum(x * math.exp(n / tau) for x, n in zip(w[b], row, strict=True)) / sum(w[b])
            losses.append(-math.log(sum(mine) / len(mine)) + neg_power * math.log(top))
        return losses

    def function(p, n):
        return functional.bsl(
            p, n, users=torch.tensor(users), tau=tau, neg_power=neg_power,
            neg_log_weight=weight if weighted else None,
        )  # fmt: skip

    agree(function, value, pos, neg)


SIGMA = {
    "tanh": lambda d: math.tanh(d) + 1,
    "atan": lambda d: math.atan(d) + 1,
    "relu": lambda d: max(0, d + 1),
    "exp": math.exp,
}


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("activation", SIGMA)
@pytest.mark.parametrize("shape", SHAPES)
def test_psl(shape, activation, weighted):
    pos, neg, weight = scores(*shape)
    w = weight.exp().tolist() if weighted else torch.ones(shape).tolist()

    def value(pos, neg):
        return [
            math.log(
                sum(
                    x * SIGMA[activation]((n - p) / 2) ** (1 / 0.2)
                    for x, n in zip(w[b], neg[b], strict=True)
                )
            )
            for b, p in enumerate(pos)
        ]

    def function(p, n):
        log_weight = weight if weighted else None
        return functional.psl(p, n, tau=0.2, activation=activation, neg_log_weight=log_weight)

    agree(function, value, pos, neg)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(("beta", "tau_plus"), [(0.0, 0.0), (0.0, 0.1), (1.0, 0.0), (0.7, 0.05)])
@pytest.mark.parametrize("shape", SHAPES)
def test_hcl(shape, beta, tau_plus, weighted):
    pos, neg, weight = scores(*shape)
    w = weight.exp().tolist() if weighted else torch.ones(shape).tolist()
    tau, floored = 0.5, []

    def value(pos, neg):
        losses = []
        for b, p in enumerate(pos):
            e = [math.exp(n / tau) for n in neg[b]]
            m = sum(w[b])
            imp = [x * y**beta for x, y in zip(w[b], e, strict=True)]
            hard = m * sum(x * y for x, y in zip(imp, e, strict=True)) / sum(imp)
            left = (hard - m * tau_plus * math.exp(p / tau)) / (1 - tau_plus)
            floor = m * math.exp(-1 / tau)
            floored.append(left < floor)
            losses.append(-math.log(math.exp(p / tau) / (math.exp(p / tau) + max(left, floor))))
        return losses

    def function(p, n):
        return functional.hcl(
            p, n, tau=tau, beta=beta, tau_plus=tau_plus,
            neg_log_weight=weight if weighted else None,
        )  # fmt: skip

    agree(function, value, pos, neg)
    assert not all(floored)


def test_hcl_floor():
    """A positive at 1 leaves nothing of the negatives at -0.9: what is left is `N e^{-1/τ}`."""
    pos = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    neg = torch.full((1, 4), -0.9, dtype=torch.float64, requires_grad=True)
    loss = functional.hcl(pos, neg, tau=0.5, beta=1.0, tau_plus=0.1)
    assert loss.item() == pytest.approx(math.log(1 + 4 * math.exp(-4)), rel=1e-12)
    of_pos, of_neg = torch.autograd.grad(loss, (pos, neg))
    assert of_pos.item() == pytest.approx(-8 / (math.exp(4) + 4), rel=1e-12)
    assert not of_neg.any()


@pytest.mark.parametrize("name", ["bsl", "psl-tanh", "psl-atan", "psl-relu", "hcl", "sl"])
def test_a_weight_of_zero_leaves_a_negative_out_and_two_counts_it_twice(name):
    pos, neg, _ = scores(5, 5)
    spec = LOSSES[name]
    loss, users = spec.loss(spec.configure()), torch.tensor(USERS[:5])
    weight = torch.tensor([-math.inf, 0.0, 0.0, 0.0, math.log(2)], dtype=torch.float64)
    left_out = loss.per_row(pos, neg, users=users, neg_log_weight=weight.expand(5, 5))
    want = loss.per_row(pos, neg[:, [1, 2, 3, 4, 4]], users=users)
    torch.testing.assert_close(left_out, want)
    grads = torch.autograd.grad(left_out.sum(), neg)[0]
    assert grads.isfinite().all()
    assert not grads[:, 0].any()
    assert grads[:, 1:].any()


@pytest.mark.parametrize("name", ["ccl", "mmcl", "simce"])
def test_margin_losses_do_not_weigh(name):
    assert not LOSSES[name].loss.weighs_negatives


def test_names_and_settings():
    assert [LOSSES[f"psl-{name}"].configure().activation for name in ("tanh", "atan", "relu")] == [
        "tanh", "atan", "relu",
    ]  # fmt: skip
    assert not LOSSES["sl"].configure().include_positive
    assert LOSSES["simce"].loss.similarity == "dot"
    assert {LOSSES[name].loss.similarity for name in ("ccl", "mmcl", "bsl", "hcl", "sl")} == {
        "cosine"
    }


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ccl", {"margin": 1.0}, r"`margin` must be a cosine below 1, got 1.0."),
        ("ccl", {"neg_weight": 0}, r"`neg_weight` must be positive, got 0.0."),
        ("mmcl", {"margins": ()}, r"`margins` must be cosines below 1, got \(\)."),
        ("mmcl", {"margins": (0.1,)}, r"`neg_weights` must be as many as `margins` \(1\), got"),
        ("mmcl", {"neg_weights": (1, 2, -1)}, r"`neg_weights` must be positive, got"),
        ("simce", {"margin": -1}, r"`margin` must be positive, got -1.0."),
        ("bsl", {"neg_power": 0}, r"`neg_power` must be positive, got 0.0."),
        ("psl-tanh", {"tau": 0}, r"`tau` must be positive, got 0.0."),
        ("psl-tanh", {"activation": "tan"}, "did you mean 'tanh'"),
        ("hcl", {"beta": -1}, r"`beta` must not be negative, got -1.0."),
        ("hcl", {"tau_plus": 1}, r"`tau_plus` must be in \[0, 1\), got 1.0."),
    ],
)
def test_configs_refuse(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        LOSSES[name].configure(**settings)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, n: LOSSES["bsl"].loss()(p, n), "`users` must be given with BSL, got None."),
        (
            lambda p, n: functional.bsl(p, n, users=torch.zeros(3), tau=1, neg_power=1),
            r"`users` must be \[B\] = \(2,\), got \(3,\).",
        ),
        (
            lambda p, n: functional.bsl(p, n, users=torch.zeros(2), tau=1, neg_power=0),
            "`neg_power` must be positive, got 0.",
        ),
        (
            lambda p, n: functional.psl(p, n, tau=1, activation="tanhh"),
            "did you mean 'tanh'",
        ),
        (
            lambda p, n: functional.mmcl(p, n, margins=(0.1,), neg_weights=()),
            r"`neg_weights` must be as many as `margins`, got \(\) and \(0.1,\).",
        ),
        (
            lambda p, n: functional.hcl(p, n, tau=1, beta=-1, tau_plus=0),
            "`beta` must not be negative, got -1.",
        ),
        (
            lambda p, n: functional.hcl(p, n, tau=1, beta=1, tau_plus=1),
            r"`tau_plus` must be in \[0, 1\), got 1.",
        ),
        (lambda p, n: functional.simce(p[:, None], n, margin=1), r"got \(2, 1\) and \(2, 3\)"),
        (lambda p, n: functional.ccl(p[:1], n, margin=0, neg_weight=1), r"got \(1,\) and \(2, 3\)"),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ConfigError, match=message):
        call(torch.zeros(2), torch.zeros(2, 3))
