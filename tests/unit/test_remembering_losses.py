"""Losses that remember or learn, within training: resumption, freezing, lazy Adam, refusals."""

import numpy as np
import polars as pl
import pytest
import torch

from contrarec import Dataset, Recommender
from contrarec.errors import ConfigError
from contrarec.losses import LOSSES, History
from contrarec.model import Model
from contrarec.settings import resolve_settings
from contrarec.training.loop import Hooks, fit
from contrarec.training.metrics_log import read_log

SETTINGS = {
    "bc": {"freeze_epochs": 2},
    "popgo": {"freeze_epochs": 2},
    "adap-tau": {"warm_up_epochs": 2, "tau": 0.3},
    "sl-at-k": {"threshold_interval": 2, "threshold_samples": 20, "k": 5},
    "drrl": {},
    "llpauc": {},
    "variational-bpr": {"n_pos": 3},
}
COMMON = {
    "batch_size": 32, "n_neg": 4, "lr": 0.02, "epochs": 5, "eval_every": 5, "dim": 8,
    "checkpoint_seconds": 0.0, "ks": (5,), "monitor": "recall@5",
}  # fmt: skip


@pytest.fixture(scope="module")
def data():
    """Two tastes: even users like even items, odd users odd ones; 5 to 8 items each."""
    rng = np.random.default_rng(0)
    rows = [
        (user, int(item))
        for user in range(40)
        for item in rng.choice(np.arange(user % 2, 30, 2), 5 + user % 4, replace=False)
    ]
    frame = pl.DataFrame(rows, schema=["user", "item"], orient="row")
    return Dataset.from_parts(train=frame, tests={}, user="user", item="item", name="tastes")


class Stop(Exception):
    pass


@pytest.mark.parametrize("steps", [13, 33])
@pytest.mark.parametrize("name", SETTINGS)
def test_resumes_bit_for_bit(data, tmp_path, name, steps):
    """In the second epoch and in the fourth, after something was frozen or set anew."""

    def recommender():
        return Recommender("mf", name, device="cpu", seed=3, **COMMON, **SETTINGS[name])

    whole = recommender().fit(data, out=tmp_path / "whole")
    count = 0

    def on_step(*_):
        nonlocal count
        count += 1
        if count == steps:
            raise Stop

    with pytest.raises(Stop):
        recommender().fit(data, out=tmp_path / "cut", hooks=Hooks(on_step=on_step))
    resumed = recommender().fit(data, out=tmp_path / "cut", resume=True)
    weights = [rec._trained().weights() for rec in (whole, resumed)]
    for (key, a), (_, b) in zip(weights[0].items(), weights[1].items(), strict=True):
        assert torch.equal(a, b), key
    logs = [read_log(tmp_path / run / "metrics.jsonl") for run in ("whole", "cut")]
    for a, b in zip(*logs, strict=True):
        assert a | {"seconds": 0} == b | {"seconds": 0}


def train(data, name, on_epoch=None, **overrides):
    """Train and return the model; `on_epoch(loss)` sees the loss after each epoch."""
    settings = resolve_settings(
        backbone="mf", loss=name, overrides=COMMON | SETTINGS[name] | overrides, seed=1
    )
    model = Model(settings, data.train, torch.device("cpu"))
    hooks = Hooks(on_epoch=lambda _: on_epoch(model.loss)) if on_epoch else None
    fit(model.backbone, model.loss, data, settings.training, hooks=hooks)
    return model


@pytest.mark.parametrize("name", ["bc", "popgo"])
def test_frozen_vectors_do_not_move_for_all_their_momentum(data, name):
    seen = []
    train(data, name, lambda loss: seen.append([p.detach().clone() for p in loss.learned()]))
    assert len(seen) == 5
    for before, after, frozen in zip(seen[:-1], seen[1:], [False, True, True, True], strict=True):
        for a, b in zip(before, after, strict=True):
            assert torch.equal(a, b) == frozen


def test_vectors_frozen_from_the_start_are_as_drawn(data):
    seen = []
    train(
        data, "bc", lambda loss: seen.append(next(iter(loss.learned())).detach().clone()),
        freeze_epochs=0,
    )  # fmt: skip
    assert all(torch.equal(x, seen[0]) for x in seen)


def test_what_is_remembered_moves_while_training(data):
    """The thresholds, margins, temperatures and numbers are not what they were."""
    model = train(data, "sl-at-k")
    assert (model.loss.threshold != 0).all()
    model = train(data, "drrl", margin_lr=0.1)
    assert (model.loss.margins != torch.tensor(0.7)).all()
    model = train(data, "adap-tau", epochs=4)
    assert model.loss.user_scale.unique().numel() > 10
    assert (model.loss.loss_counts == torch.tensor(data.train.user_counts)).all()
    model = train(data, "llpauc")
    assert all(x.grad is None for x in model.loss.game.values())
    model = train(data, "variational-bpr")
    steps = -(-data.train.nnz // 32) * 5
    assert model.loss.step == steps


@pytest.mark.parametrize("name", SETTINGS)
def test_learns_the_tastes_after_its_state_has_changed(data, name):
    """Long past freezing, warm-up and the first thresholds."""
    model = train(data, name, epochs=20)
    with torch.no_grad():
        users, items = model.loss.final_vectors(*model.backbone())
    own = torch.arange(40)[:, None] % 2 == torch.arange(30) % 2
    mean = [(users @ items.T)[mask].mean() for mask in (own, ~own)]
    spread = (users @ items.T).std()
    assert mean[0] > mean[1] + spread


@pytest.mark.parametrize("name", ["adap-tau", "sl-at-k", "drrl", "llpauc"])
def test_lazy_adam_where_all_gradients_come_through_the_scores(data, name):
    train(data, name, optimizer="lazy_adam", epochs=2)


@pytest.mark.parametrize("name", ["bc", "popgo", "variational-bpr"])
def test_no_lazy_adam_where_some_do_not(data, name):
    with pytest.raises(ConfigError, match=r"'adam' with the loss \w+, whose gradients are dense"):
        train(data, name, optimizer="lazy_adam")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("bc", {"tau_pop": 0}, "`tau_pop` must be positive, got 0.0."),
        ("bc", {"pop_weight": 1.5}, r"`pop_weight` must lie in \[0, 1\], got 1.5."),
        ("popgo", {"freeze_epochs": -1}, "`freeze_epochs` must not be negative, got -1."),
        ("adap-tau", {"beta": 0}, "`beta` must be positive, got 0.0."),
        ("adap-tau", {"warm_up_epochs": -2}, "`warm_up_epochs` must not be negative, got -2."),
        ("sl-at-k", {"k": 0}, "`k` must be positive, got 0."),
        ("sl-at-k", {"tau_w": -1.0}, "`tau_w` must be positive, got -1.0."),
        ("drrl", {"omega": 1.0}, "`omega` must be more than 1, got 1.0."),
        ("drrl", {"margin": 2.0}, "`margin` must be a cosine, got 2.0."),
        ("drrl", {"eps": 0.0}, "`eps` must be positive, got 0.0."),
        ("llpauc", {"beta": 0.0}, "`beta` must be positive, got 0.0."),
        ("variational-bpr", {"n_pos": 0}, "`n_pos` must be positive, got 0."),
    ],
)
def test_configs_refuse(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        LOSSES[name].configure(**settings)


HISTORY = History(np.array([0, 1, 2]), np.array([0, 1]))


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "llpauc"])
def test_a_missing_context_is_an_error(name):
    loss = LOSSES[name].loss(history=HISTORY, n_users=2, n_items=3, rng=0)
    pos, neg = torch.zeros(2), torch.zeros(2, 1)
    with pytest.raises(ConfigError, match="`users` must be given with this loss"):
        loss(pos, neg, vectors=None)


@pytest.mark.parametrize("name", ["bc", "adap-tau", "sl-at-k", "variational-bpr", "drrl"])
def test_what_the_data_must_give(name):
    missing = "`n_users` must" if name == "drrl" else "`history` and `n_items` must"
    with pytest.raises(ConfigError, match=missing):
        LOSSES[name].loss(rng=0)
