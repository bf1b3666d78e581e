"""The training loop: schedule, stopping, exact resumption, and what stops it early."""

import json
import math

import numpy as np
import polars as pl
import pytest
import torch

from contrarec import Dataset, Recommender
from contrarec.backbones import build_backbone
from contrarec.config import BackboneConfig
from contrarec.errors import ConfigError, DataError
from contrarec.sampling import Batch, Sampler
from contrarec.training import loop
from contrarec.training.checkpoint import Checkpoint
from contrarec.training.loop import Hooks, add_batch_l2
from contrarec.training.metrics_log import MetricsLog, read_log
from contrarec.training.state import KLTrace, epoch_plan


@pytest.fixture(scope="module")
def data():
    """Two tastes: even users like even items, odd users odd ones."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(40):
        items = rng.choice(np.arange(user % 2, 30, 2), 9, replace=False)
        rows += [(user, int(item), part) for item, part in zip(items, [*"ttttttvoo"], strict=True)]
    frames = {
        part: {
            "user": [u for u, _, p in rows if p == part],
            "item": [i for _, i, p in rows if p == part],
        }
        for part in "tvo"
    }
    t, v, o = (pl.DataFrame(frames[part]) for part in "tvo")
    return Dataset.from_parts(
        train=t, valid=v, tests={"other": o}, user="user", item="item", name="tastes"
    )


def recommender(**more):
    settings = {
        "backbone": "lightgcn", "loss": "advinfonce", "seed": 3, "device": "cpu", "dim": 8,
        "batch_size": 32, "n_neg": 4, "tau": 0.2, "lr": 0.02, "adv_interval": 3, "adv_lr": 0.01,
        "eval_every": 2, "epochs": 12, "patience": 100, "checkpoint_seconds": 0.0, "ks": (5, 10),
        "monitor": "recall@10",
    }  # fmt: skip
    return Recommender(**(settings | more))


def weights(recommender):
    return recommender._trained().weights()


def test_learns_the_two_tastes(data):
    rec = recommender(backbone="mf", epochs=40).fit(data)
    metrics = rec.result["metrics"]["other"]
    assert metrics["recall@10"] > 0.9  # 9 of 15 items of a taste are left to 2 of the test
    frame = rec.recommend([0, 1], k=5)
    assert frame.filter(frame["user_id"] == 0)["item_id"].to_list() == pytest.approx(
        [i for i in frame.filter(frame["user_id"] == 0)["item_id"] if i % 2 == 0]
    )


def test_plan_and_passes(data, tmp_path):
    assert epoch_plan(True, 2) == ("max", "max", "min")
    recommender(adv_passes=3, epochs=14).fit(data, out=tmp_path / "run")
    log = read_log(tmp_path / "run" / "metrics.jsonl")
    # (epoch + 3) % 3 == 0 and epoch > 0: epochs 3, 6 and 9 counted from 0, then T_adv is reached
    assert [line["epoch"] for line in log if "adversary_loss" in line] == [4, 7, 10]
    assert [line["epoch"] for line in log if "metrics" in line] == [2, 4, 6, 8, 10, 12, 14]
    assert log[-1]["adversary_passes"] == 3
    # the KL of an epoch is its own: where nothing was measured there is none
    assert [line["epoch"] for line in log if "kl" in line] == [2, 4, 6, 7, 8, 10, 12, 14]
    kl = next(line for line in log if "adversary_loss" in line)["kl"]
    assert 0 < kl["q05"] <= kl["median"] <= kl["q95"] <= kl["max"] < math.log(4)
    assert set(log[1]["metrics"]) == {"valid", "other"}


def test_stops_on_validation_and_restores_the_best(data, tmp_path):
    seen = {}

    def on_eval(epoch, metrics, improved):
        seen[epoch] = (metrics["valid"]["recall@10"], improved)

    rec = recommender(patience=3, epochs=400, lr=0.05)
    rec.fit(data, out=tmp_path / "run", hooks=Hooks(on_eval=on_eval))
    result = rec.result
    best = max(value for value, _ in seen.values())
    first_best = min(epoch for epoch, (value, _) in seen.items() if value == best)
    assert result["stopped"] == "patience"
    assert result["best_epoch"] == first_best
    assert result["epochs"] == first_best + 3 * 2
    assert result["metrics"]["valid"]["recall@10"] == best
    assert [epoch for epoch, (_, improved) in seen.items() if improved][-1] == first_best


LAZY = {"backbone": "mf", "optimizer": "lazy_adam", "adv_optimizer": "lazy_adam"}


class Stop(Exception):
    pass


@pytest.mark.parametrize(
    ("steps", "settings"), [(n, {}) for n in (1, 7, 8, 9, 31, 40, 77)] + [(31, LAZY)]
)
def test_resumes_bit_for_bit_from_any_step(data, tmp_path, steps, settings):
    whole = recommender(**settings).fit(data, out=tmp_path / "whole")
    count = 0

    def on_step(*_):
        nonlocal count
        count += 1
        if count == steps:
            raise Stop

    with pytest.raises(Stop):
        recommender(**settings).fit(data, out=tmp_path / "cut", hooks=Hooks(on_step=on_step))
    resumed = recommender(**settings).fit(data, out=tmp_path / "cut", resume=True)
    for (name, a), (_, b) in zip(weights(whole).items(), weights(resumed).items(), strict=True):
        assert torch.equal(a, b), name
    logs = [read_log(tmp_path / run / "metrics.jsonl") for run in ("whole", "cut")]
    for a, b in zip(*logs, strict=True):
        assert a | {"seconds": 0} == b | {"seconds": 0}


def test_writing_checkpoints_changes_nothing(data, tmp_path):
    logs = []
    for seconds in (0.0, 1000.0):
        folder = tmp_path / str(seconds)
        recommender(checkpoint_seconds=seconds).fit(data, out=folder)
        logs.append([line | {"seconds": 0} for line in read_log(folder / "metrics.jsonl")])
    assert logs[0] == logs[1]


def test_resuming_a_finished_run_changes_nothing(data, tmp_path):
    first = recommender().fit(data, out=tmp_path / "run")
    log = (tmp_path / "run" / "metrics.jsonl").read_text()
    again = recommender().fit(data, out=tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == log
    assert again.result["metrics"] == first.result["metrics"]


def test_same_seed_same_weights_and_another_seed_others(data):
    a, b, c = (weights(recommender(seed=seed).fit(data)) for seed in (1, 1, 2))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["backbone.user_table"], c["backbone.user_table"])


def test_a_checkpoint_of_another_run_is_refused_and_left_alone(data, tmp_path):
    recommender().fit(data, out=tmp_path / "run")
    path = tmp_path / "run" / "state" / "checkpoint.safetensors"
    content = path.read_bytes()
    with pytest.raises(ConfigError, match="other settings"):
        recommender(lr=0.5).fit(data, out=tmp_path / "run", resume=True)
    damaged = bytearray(content)
    damaged[-3] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="does not match its checksum"):
        recommender().fit(data, out=tmp_path / "run", resume=True)
    assert path.read_bytes() == bytes(damaged)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="damaged"):
        recommender().fit(data, out=tmp_path / "run", resume=True)
    with pytest.raises(ConfigError, match="already holds a run"):
        recommender().fit(data, out=tmp_path / "run")


def test_the_checkpoint_itself_knows_whose_it_is(data, tmp_path):
    rec = recommender().fit(data, out=tmp_path / "run")
    model = rec._trained()
    optimizer = torch.optim.Adam(model.backbone.parameters())
    identity = {"settings": rec.settings.to_toml(), "data": "another"}
    checkpoint = Checkpoint(tmp_path / "run", model.backbone, model.loss, optimizer, identity)
    with pytest.raises(DataError, match="belongs to another run, its data is"):
        checkpoint.load(KLTrace(data.n_users, torch.device("cpu")))


def test_nan_stops_with_epoch_and_cause(data):
    with pytest.raises(ConfigError, match=r"loss became nan in epoch \d+.*lr = 1e\+38"):
        recommender(lr=1e38, l2=0.0, backbone="mf").fit(data)


def test_lazy_adam_learns(data):
    rec = recommender(**LAZY, epochs=40).fit(data)
    assert rec.result["metrics"]["other"]["recall@10"] > 0.9


def test_lazy_adam_is_adam_while_every_row_is_touched(data):
    # a batch of the whole epoch gathers every user and, for sure, every item: none is left out
    settings = {"backbone": "mf", "batch_size": 1000, "n_neg": 20, "epochs": 6, "l2": 0.1}
    dense = recommender(**settings, optimizer="adam", adv_optimizer="adam").fit(data)
    lazy = recommender(**settings, optimizer="lazy_adam", adv_optimizer="lazy_adam").fit(data)
    for name, tensor in weights(dense).items():
        torch.testing.assert_close(weights(lazy)[name], tensor, rtol=1e-3, atol=1e-5)


def test_lazy_adam_is_not_for_graphs(data):
    with pytest.raises(ConfigError, match=r"`optimizer` must be 'auto' or 'adam'.*'lazy_adam'"):
        recommender(optimizer="lazy_adam").fit(data)


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_storage_is_that_of_every_score_and_of_no_weight(data, monkeypatch, name):
    right, seen = loop.sampled_scores, set()

    def scores(users, *arguments, **options):
        seen.add((users.requires_grad, options["storage"]))
        return right(users, *arguments, **options)

    monkeypatch.setattr(loop, "sampled_scores", scores)
    rec = recommender(storage=name, epochs=6).fit(data)
    storage = torch.bfloat16 if name == "bfloat16" else None
    assert seen == {(True, storage), (False, storage)}  # min and max steps
    for tensor in weights(rec).values():
        assert tensor.dtype == torch.float32
        assert not torch.equal(tensor, tensor.bfloat16().float())


def test_learns_from_vectors_in_bfloat16(data):
    rec = recommender(**LAZY, epochs=40, storage="bfloat16").fit(data)
    assert rec.result["metrics"]["other"]["recall@10"] > 0.9


def test_unknown_monitor(data):
    with pytest.raises(ConfigError, match="monitor"):
        recommender(monitor="gain@10").fit(data)


def test_l2_gradient_is_that_of_half_the_squared_rows(data):
    for negatives in (True, False):
        backbone = build_backbone(BackboneConfig(dim=4), data.train)
        batch = Batch(torch.tensor([0, 3, 3]), torch.tensor([[1, 2, 2], [1, 4, 5], [6, 1, 2]]))
        for table in (backbone.user_table, backbone.item_table):
            table.grad = torch.zeros_like(table)
        add_batch_l2(backbone, batch, 0.3, negatives=negatives)
        items = batch.items if negatives else batch.items[:, 0]
        penalty = 0.3 / 3 * 0.5 * (
            backbone.user_table[batch.users].square().sum()
            + backbone.item_table[items].square().sum()
        )  # fmt: skip
        tables = (backbone.user_table, backbone.item_table)
        for table, expected in zip(tables, torch.autograd.grad(penalty, tables), strict=True):
            torch.testing.assert_close(table.grad, expected)


def test_sampler_refuses_what_cannot_be_sampled(data):
    options = {"batch_size": 8, "n_neg": 2, "positives": "user", "drop_last": False, "seed": 0}
    full = pl.DataFrame({"user": ["a", "a", "b"], "item": ["x", "y", "x"]})
    log = Dataset.from_frame(full, user="user", item="item")
    with pytest.raises(DataError, match="user 'a' has interacted with all 2 items"):
        Sampler(log.train, **options)
    sampler = Sampler(data.train, **options)
    assert sampler.n_batches == math.ceil(data.train.nnz / 8)
    assert Sampler(data.train, **(options | {"drop_last": True})).n_batches == data.train.nnz // 8
    assert len(list(sampler.batches(0, first=3))) == sampler.n_batches - 3


def test_kl_trace_is_the_mean_over_users_of_their_means():
    trace = KLTrace(4, torch.device("cpu"))
    assert trace.summary() is None
    trace.add(torch.tensor([0, 0, 2]), torch.tensor([1.0, 3.0, 5.0]))
    trace.add(torch.tensor([2]), torch.tensor([7.0]))
    summary = trace.summary()
    assert summary["mean"] == 4.0  # user 0: 2, user 2: 6
    assert (summary["q05"], summary["max"]) == (2.0, 6.0)
    trace.reset()
    assert trace.summary() is None


def test_log_survives_a_line_cut_short(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"epoch": 1}) + '\n{"epo')
    assert read_log(path) == [{"epoch": 1}]


def test_resuming_drops_epochs_that_the_checkpoint_does_not_know(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"epoch": epoch}) + "\n" for epoch in (1, 2, 3)))
    MetricsLog(path, 2).append({"epoch": 3, "again": True})
    assert read_log(path) == [{"epoch": 1}, {"epoch": 2}, {"epoch": 3, "again": True}]
    assert read_log(tmp_path / "none.jsonl") == []


def test_seed_phase_and_epoch_each_give_other_batches(data):
    def first(seed, epoch, phase):
        options = {"batch_size": 64, "n_neg": 3, "positives": "user", "drop_last": False}
        return next(Sampler(data.train, seed=seed, **options).batches(epoch, phase)).items

    base = first(0, 0, "min")
    assert torch.equal(base, first(0, 0, "min"))
    for other in (first(1, 0, "min"), first(0, 1, "min"), first(0, 0, "max")):
        assert not torch.equal(base, other)
