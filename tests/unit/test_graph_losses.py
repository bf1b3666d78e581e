"""The losses of graph views: when they draw, what a resumed run repeats, and what they refuse."""

import numpy as np
import polars as pl
import pytest
import torch

from contrarec import Dataset, Recommender
from contrarec.config import BackboneConfig
from contrarec.errors import ConfigError
from contrarec.losses import (
    LOSSES,
    NCL,
    SGL,
    AdvDrop,
    AUPlusConfig,
    MixRecConfig,
    NCLConfig,
    SGLConfig,
    SimGCL,
    SimGCLConfig,
    XSimGCL,
    XSimGCLConfig,
)
from contrarec.losses.functional import contrast
from contrarec.settings import resolve_settings
from contrarec.training.loop import Hooks
from graphs import encoder, pairs_of

GRAPH_LOSSES = sorted(name for name, spec in LOSSES.items() if spec.kind == "graph")
N_USERS, N_ITEMS, DIM = 12, 10, 4


def backbone(**settings):
    rng = np.random.default_rng(0)
    indices = np.concatenate([np.sort(rng.permutation(N_ITEMS)[:4]) for _ in range(N_USERS)])
    indptr = np.arange(0, 4 * N_USERS + 1, 4)
    return encoder(indptr, indices, N_ITEMS, dim=DIM, **settings)


def test_sgl_draws_two_graphs_for_an_epoch():
    loss, model, drawn = SGL(SGLConfig(edge_drop=0.3), rng=1), backbone(), []
    for epoch in range(2):
        loss.begin_epoch(epoch, None)
        for _ in range(2):
            loss.propagate(model)
            drawn.append([pairs_of(graph, N_ITEMS) for graph in loss._graphs[1]])
    first, again, other, _ = drawn
    assert torch.equal(torch.stack(first), torch.stack(again))
    assert not torch.equal(*first)
    assert not torch.equal(first[0], other[0])
    # a loss that is put where this one stands finds the same graphs in the middle of an epoch
    resumed = SGL(SGLConfig(edge_drop=0.3), rng=2)
    resumed.load_state_dict(loss.state_dict())
    resumed.propagate(model)
    for a, b in zip(resumed._graphs[1], loss._graphs[1], strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("make", [SimGCL, XSimGCL])
def test_noise_is_another_for_every_step_and_both_passes(make):
    loss, model = make(rng=1), backbone(ego_weight=0.0)
    loss.propagate(model)
    first = loss._views
    state = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
    loss.propagate(model)
    assert not torch.equal(first[0][0], first[1][0])
    assert not torch.equal(first[0][0], loss._views[0][0])
    resumed = make(rng=2)
    resumed.load_state_dict(state)
    resumed.propagate(model)
    assert torch.equal(resumed._views[0][0], loss._views[0][0])


def test_ncl_clusters_when_due():
    config = NCLConfig(warm_up_epochs=2, cluster_interval=3, n_prototypes=4)
    loss = NCL(config, n_users=N_USERS, n_items=N_ITEMS, dim=DIM, rng=1)
    model, made = backbone(), []
    for epoch in range(9):
        loss.begin_epoch(epoch, None)
        for _ in range(2):
            before = loss.user_centroids.clone()
            loss.propagate(model)
            made.append(not torch.equal(before, loss.user_centroids))
        assert bool(loss.clustered) == (epoch >= 2)
    assert [n // 2 for n, new in enumerate(made) if new] == [2, 5, 8]
    assert all(n % 2 == 0 for n, new in enumerate(made) if new)  # by the epoch's first step


def test_ncl_has_at_most_one_cluster_for_each():
    loss = NCL(NCLConfig(n_prototypes=11), n_users=N_USERS, n_items=N_ITEMS, dim=DIM, rng=0)
    assert loss.user_centroids.shape == (11, DIM)
    assert loss.item_centroids.shape == (N_ITEMS, DIM)


def test_names_stand_for_a_backbone_too():
    assert resolve_settings(loss="sgl").backbone == BackboneConfig(name="lightgcn")
    for name in ("simgcl", "xsimgcl"):
        assert resolve_settings(loss=name).backbone == BackboneConfig(
            name="lightgcn", ego_weight=0.0
        )
    backbone = resolve_settings(loss="mixrec").backbone
    assert (backbone.n_layers, backbone.ego_weight) == (3, 0.0)
    said = resolve_settings(loss="mixrec", overrides={"n_layers": 1, "ego_weight": None}).backbone
    assert (said.n_layers, said.ego_weight) == (1, None)  # what is said wins
    with pytest.raises(ConfigError, match="goes with lightgcn, got 'mf'"):
        resolve_settings(loss="sgl", backbone="mf")


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (SGLConfig, {"edge_drop": 1.0}, r"`edge_drop` must be in \[0, 1\), got 1.0."),
        (SGLConfig, {"view_weight": -1.0}, "`view_weight` must not be negative, got -1.0."),
        (SimGCLConfig, {"view_tau": 0.0}, "`view_tau` must be positive, got 0.0."),
        (XSimGCLConfig, {"view_layer": -1}, "`view_layer` must not be negative, got -1."),
        (NCLConfig, {"n_prototypes": 0}, "`n_prototypes` must be positive, got 0."),
        (NCLConfig, {"hops": 0}, "`hops` must be positive, got 0."),
        (MixRecConfig, {"concentration": 0.0}, "`concentration` must be positive, got 0.0."),
        (AUPlusConfig, {"noise": -0.1}, "`noise` must not be negative, got -0.1."),
        (BackboneConfig, {"ego_weight": 1.5}, r"`ego_weight` must be in \[0, 1\] or none, got 1.5"),
        (BackboneConfig, {"degree_exponent": float("inf")}, "`degree_exponent` must be finite"),
    ],
)
def test_configs_refuse(config, settings, message):
    with pytest.raises(ConfigError, match=message):
        config(**settings)


def test_wrong_calls():
    pos, neg = torch.zeros(2), torch.zeros(2, 3)
    with pytest.raises(ConfigError, match=r"`propagate\(backbone\)` must come before"):
        SGL()(pos, neg, users=torch.zeros(2), pos_items=torch.zeros(2))
    loss = XSimGCL(XSimGCLConfig(view_layer=3))
    with pytest.raises(ConfigError, match="at most the backbone's `n_layers` = 2, got 3"):
        loss.propagate(backbone())
    with pytest.raises(ConfigError, match="`dim` must be given to AdvDrop, got None"):
        AdvDrop()
    with pytest.raises(ConfigError, match="must be given to NCL, got None, None and None"):
        NCL()
    with pytest.raises(ConfigError, match=r"got \(2, 3\), \(2, 3\) and \(4, 2\)"):
        contrast(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(4, 2), tau=1.0)
    with pytest.raises(ConfigError, match="`tau` must be positive, got 0"):
        contrast(torch.zeros(2, 3), torch.zeros(2, 3), tau=0.0)


# a run that stops goes on as if nothing had happened


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    rows = [(u, int(i)) for u in range(24) for i in rng.choice(np.arange(u % 2, 20, 2), 6, False)]
    parts = [[row for n, row in enumerate(rows) if (n % 6 == 5) == held] for held in (False, True)]
    train, valid = (pl.DataFrame(part, schema=["user", "item"], orient="row") for part in parts)
    return Dataset.from_parts(train=train, valid=valid, user="user", item="item", name="tastes")


class Stop(Exception):
    pass


def recommender(name):
    extra = {
        "ncl": {"warm_up_epochs": 1, "n_prototypes": 5},
        "advdrop": {"adv_interval": 2, "adv_epochs": 1},
    }.get(name, {})
    return Recommender(
        "lightgcn", name, seed=3, device="cpu", dim=8, batch_size=50, n_neg=3, lr=0.02, epochs=4,
        eval_every=2, checkpoint_seconds=0.0, ks=(5,), monitor="recall@5", **extra,
    )  # fmt: skip


@pytest.mark.parametrize("name", GRAPH_LOSSES)
def test_resumes_bit_for_bit(data, tmp_path, name):
    whole = recommender(name).fit(data, out=tmp_path / "whole")
    weights = whole._trained().weights()
    # three steps an epoch, and an adversary's three before those of the second and the fourth
    for steps in (2, 4, 8, 10):
        count = 0

        def on_step(*_, steps=steps):
            nonlocal count
            count += 1
            if count == steps:
                raise Stop

        folder = tmp_path / str(steps)
        with pytest.raises(Stop):
            recommender(name).fit(data, out=folder, hooks=Hooks(on_step=on_step))
        resumed = recommender(name).fit(data, out=folder, resume=True)._trained().weights()
        assert weights.keys() == resumed.keys()
        for key in weights:
            assert torch.equal(weights[key], resumed[key]), key
