"""The main job on real data, inside bands around the official code's results."""

import numpy as np
import pytest
import torch

from contrarec import Dataset, Recommender
from contrarec.data.checks import check
from contrarec.data.splits import PopularityShift, Random
from contrarec.kernels.dispatch import set_threads


def test_coat_as_published(data_dir, tmp_path):
    data = Dataset.load(data_dir("coat"))
    assert (data.n_users, data.n_items, data.train.nnz) == (290, 295, 1363)
    rec = Recommender("lightgcn", "advinfonce", preset="coat", device="cpu")
    rec.fit(data, out=tmp_path / "run")
    evaluation = rec.evaluate(data, bootstrap=200)["ood"]
    metrics = evaluation.metrics()
    # official: recall .269 to .277, NDCG .194 to .201, HR .565 to .582; single seeds move by .01
    assert 0.25 < metrics["recall@20"] < 0.295
    assert 0.185 < metrics["ndcg@20"] < 0.21
    assert 0.54 < metrics["hit@20"] < 0.61
    assert evaluation.masked == ("train", "valid")
    assert len(evaluation.users) == 237
    frame = Recommender.load(tmp_path / "run", device="cpu").recommend([0, 7], k=20)
    history = set(data.train.items.take(data.train.indices[: data.train.indptr[1]]).to_list())
    assert len(frame) == 40
    assert not history & set(frame.filter(frame["user_id"] == 0)["item_id"].to_list())


def test_the_number_of_threads_changes_nothing(data_dir):
    data = Dataset.load(data_dir("coat"))
    found = []
    for n_threads in (1, 2):
        set_threads(n_threads)
        rec = Recommender("lightgcn", "advinfonce", preset="coat", device="cpu", epochs=20)
        rec.fit(data)
        found.append((rec._trained().weights(), rec.result["metrics"]))
    (one, metrics), (two, others) = found
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert metrics == others


@pytest.mark.parametrize(
    ("backbone", "low", "high"), [("mf", 0.33, 0.38), ("lightgcn", 0.42, 0.46)]
)
def test_yahoo_learns_at_the_published_pace(data_dir, backbone, low, high):
    data = Dataset.load(data_dir("yahoo-r3"))
    rec = Recommender(
        backbone, "advinfonce", preset="yahoo-r3", device="cpu", epochs=5, eval_every=5
    ).fit(data)
    metrics = rec.result["metrics"]
    assert low < metrics["valid"]["recall@20"] < high
    assert metrics["ood"]["recall@20"] > 0.105  # popularity alone reaches .095


def test_tencent_is_read_split_and_checked(data_dir):
    data = Dataset.load(data_dir("tencent-lite"))
    parts = data.describe()["parts"]
    shifts = [parts[f"ood_{g}"]["popularity_kl"] for g in (1, 2, 3)]
    assert shifts == sorted(shifts)  # from the mildest to the flattest
    assert not [finding for finding in check(data) if finding.level == "error"]
    log = Dataset.from_parts(train=data.train, name="log")
    split = log.split(
        tests={f"gamma{g}": PopularityShift(gamma=g, fraction=0.05) for g in (200, 10, 2)},
        valid=Random(0.1),
        seed=1,
    )
    assert sum(part.nnz for part in split.parts.values()) == data.train.nnz
    counts = split.tests["gamma2"].truth.item_counts[data.train.item_counts > 0]
    order = np.argsort(-data.train.item_counts[data.train.item_counts > 0], kind="stable")
    head, rest = np.array_split(counts[order], 10)[0], np.array_split(counts[order], 10)[1:3]
    assert head.mean() == pytest.approx(np.mean(rest[0]) * 2 ** (1 / 9), rel=0.05)
