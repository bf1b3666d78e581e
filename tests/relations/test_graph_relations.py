"""Relations of the losses of graph views: with BPR, between views, and of the backbone's layers."""

import numpy as np
import pytest
import torch

from contrarec.losses import (
    NCL,
    SGL,
    AUPlus,
    AUPlusConfig,
    NCLConfig,
    SGLConfig,
    SimGCL,
    SimGCLConfig,
    XSimGCL,
    XSimGCLConfig,
)
from contrarec.losses.functional import alignment, bpr, contrast, uniformity
from contrarec.losses.views import signed_noise
from graphs import encoder

N_USERS, N_ITEMS, DIM = 8, 6, 4
INDPTR = np.arange(0, 3 * N_USERS + 1, 3)
INDICES = np.concatenate([np.sort((np.arange(3) * 2 + u) % N_ITEMS) for u in range(N_USERS)])


def backbone(**settings):
    return encoder(INDPTR, INDICES, N_ITEMS, dim=DIM, **settings)


def step(loss, model):
    """Return the loss of a batch, the scores that it saw and what came with them."""
    rows = {
        "users": torch.tensor([0, 3, 3, 7]),
        "pos_items": torch.tensor([2, 0, 5, 2]),
        "neg_items": torch.tensor([[1, 3], [1, 4], [3, 4], [0, 0]]),
    }
    outputs = loss.propagate(model)
    vectors = outputs
    if loss.similarity == "cosine":
        vectors = tuple(torch.nn.functional.normalize(table) for table in outputs)
    users = vectors[0][rows["users"]]
    pos = (users * vectors[1][rows["pos_items"]]).sum(1)
    neg = torch.einsum("bd,bnd->bn", users, vectors[1][rows["neg_items"]])
    return loss(pos, neg, outputs=outputs, **rows), pos, neg, rows | {"outputs": outputs}


def same_step(got, want, model):
    tables = model.user_table, model.item_table
    torch.testing.assert_close(got, want)
    for a, b in zip(
        *(torch.autograd.grad(v, tables, retain_graph=True) for v in (got, want)), strict=True
    ):
        torch.testing.assert_close(a, b)


NUMBERS = {"n_users": N_USERS, "n_items": N_ITEMS, "dim": DIM}


@pytest.mark.parametrize(
    "loss",
    [
        SGL(SGLConfig(view_weight=0.0), rng=0),
        SimGCL(SimGCLConfig(view_weight=0.0), rng=0),
        XSimGCL(XSimGCLConfig(view_weight=0.0, noise=0.0), rng=0),
        NCL(NCLConfig(layer_weight=0.0, prototype_weight=0.0), rng=0, **NUMBERS),
    ],
    ids=lambda loss: type(loss).__name__,
)
@pytest.mark.parametrize("ego_weight", [None, 0.0])
def test_no_weight_is_bpr_on_lightgcn(loss, ego_weight):
    model = backbone(ego_weight=ego_weight)
    value, pos, neg, rows = step(loss, model)
    for a, b in zip(rows["outputs"], model(), strict=True):
        torch.testing.assert_close(a, b)
    plain = model()
    users = plain[0][rows["users"]]
    pos = (users * plain[1][rows["pos_items"]]).sum(1)
    neg = torch.einsum("bd,bnd->bn", users, plain[1][rows["neg_items"]])
    same_step(value, bpr(pos, neg).mean(), model)


def test_au_plus_without_weight_is_directau():
    model = backbone()
    loss = AUPlus(AUPlusConfig(view_weight=0.0, gamma=0.8), rng=0)
    value, pos, _, rows = step(loss, model)
    spread = [
        uniformity(table[rows[name]])
        for table, name in zip(rows["outputs"], ("users", "pos_items"), strict=True)
    ]
    same_step(value, alignment(pos).mean() + 0.4 * sum(spread), model)


@pytest.mark.parametrize(
    "loss",
    [
        SGL(SGLConfig(view_weight=1.0, edge_drop=0.0), rng=0),
        SimGCL(SimGCLConfig(view_weight=1.0, noise=0.0), rng=0),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_views_without_change_are_the_output(loss):
    model = backbone()
    value, pos, neg, rows = step(loss, model)
    for view in loss._views:
        for a, b in zip(view, model(), strict=True):
            torch.testing.assert_close(a, b)
    assert all(torch.equal(a, b) for a, b in zip(*loss._views, strict=True))
    closed = 0
    for table, name in zip(model(), ("users", "pos_items"), strict=True):
        some = (
            torch.nn.functional.normalize(table[rows[name].unique()])
            @ torch.nn.functional.normalize(table[rows[name].unique()]).T
        )
        closed = (
            closed
            + (torch.logsumexp(some / loss.config.view_tau, 1) - 1 / loss.config.view_tau).mean()
        )
    torch.testing.assert_close(value, bpr(pos, neg).mean() + closed)


def test_xsimgcl_with_one_layer_contrasts_it_with_itself():
    loss = XSimGCL(XSimGCLConfig(view_layer=1, noise=0.3), rng=0)
    loss.propagate(backbone(n_layers=1, ego_weight=0.0))
    for a, b in zip(*loss._views, strict=True):
        assert torch.equal(a, b)
    loss.propagate(backbone(n_layers=2, ego_weight=0.0))
    assert not torch.allclose(loss._views[0][0], loss._views[1][0])


def test_one_cluster_has_nothing_to_contrast():
    values = []
    for weight in (0.0, 5.0):
        config = NCLConfig(prototype_weight=weight, n_prototypes=1, warm_up_epochs=0)
        loss = NCL(config, rng=0, **NUMBERS).double()
        loss.begin_epoch(0, None)
        values.append(step(loss, backbone())[0])
        assert loss.clustered
    torch.testing.assert_close(*values)


def test_scaling_vectors_changes_no_contrast_and_equal_ones_give_the_log():
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(5, 3, generator=g, dtype=torch.float64) for _ in range(2))
    lengths = torch.tensor([0.1, 1.0, 3.0, 9.0, 50.0], dtype=torch.float64)[:, None]
    torch.testing.assert_close(contrast(lengths * a, b / lengths, tau=0.2), contrast(a, b, tau=0.2))
    ones = torch.ones(5, 3, dtype=torch.float64)
    torch.testing.assert_close(
        contrast(ones, 2 * ones, tau=0.2), torch.full((5,), 5.0).log().double()
    )


@pytest.mark.parametrize("tau", [1e-4, 1e4])
def test_contrast_stays_finite(tau):
    vectors = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [1e18, 1.0]], requires_grad=True)
    value = contrast(vectors, vectors.flip(0), tau=tau).mean()
    assert value.isfinite()
    assert torch.autograd.grad(value, vectors)[0].isfinite().all()


def test_noise_has_its_length_and_the_sign_of_the_vector():
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = signed_noise(x, 0.3, torch.Generator().manual_seed(1)) - x
    torch.testing.assert_close(noise.norm(dim=1), torch.full((200,), 0.3, dtype=torch.float64))
    assert (noise * x >= 0).all()
    assert (noise[0] != noise[1]).all()


# the backbone's layers


def test_equal_share_of_layer_zero_is_lightgcn_and_zero_leaves_it_out():
    plain = backbone(n_layers=3)
    layers = plain.layers()
    for side in range(2):
        stack = torch.stack([layer[side] for layer in layers])
        torch.testing.assert_close(plain()[side], stack.mean(0))
        torch.testing.assert_close(backbone(n_layers=3, ego_weight=0.25)()[side], plain()[side])
        out = backbone(n_layers=3, ego_weight=0.0)()[side]
        torch.testing.assert_close(out, stack[1:].mean(0))
        half = backbone(n_layers=3, ego_weight=0.5)()[side]
        torch.testing.assert_close(half, (stack[0] + stack[1:].mean(0)) / 2)
        assert torch.equal(backbone(n_layers=3, ego_weight=1.0)()[side], stack[0])


@pytest.mark.parametrize("ego_weight", [None, 0.0, 0.3])
@pytest.mark.parametrize("n_layers", [0, 1, 3])
def test_the_mean_of_the_layers_is_the_output(n_layers, ego_weight):
    model = backbone(n_layers=n_layers, ego_weight=ego_weight)
    for a, b in zip(model.mean(model.layers()), model(), strict=True):
        torch.testing.assert_close(a, b)
    for a, b in zip(model.mean(model.layers(n_layers + 2)), model(), strict=True):
        torch.testing.assert_close(a, b)  # layers behind its own do not count


@pytest.mark.parametrize("name", ["lightgcn", "lightgcn++"])
def test_without_layers_it_is_mf(name):
    model = backbone(name=name, n_layers=0, ego_weight=0.0)
    assert model() == (model.user_table, model.item_table)


def test_one_layer_of_unit_vectors_under_equal_exponents_is_lightgcn():
    settings = {"n_layers": 1, "ego_weight": 0.3}
    plus = backbone(name="lightgcn++", degree_exponent=0.5, neighbour_exponent=0.5, **settings)
    plain = backbone(**settings)
    with torch.no_grad():
        for model in (plus, plain):
            for table in (model.user_table, model.item_table):
                table.copy_(torch.nn.functional.normalize(table))
    for a, b in zip(plus(), plain(), strict=True):
        torch.testing.assert_close(a, b)
