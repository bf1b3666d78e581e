"""Several workers take the course of a single one: losses, weights, metrics, KL, resumption."""

from functools import cache
from itertools import pairwise

import pytest
import torch

from contrarec import Recommender
from contrarec.data.blocks import block_of, cut_points, slice_dataset
from contrarec.distributed import join_weights
from contrarec.training.metrics_log import read_log
from workers import Crew, settings_of, tastes, train_one


@pytest.fixture(scope="module")
def crew(tmp_path_factory):
    crew = Crew(tmp_path_factory.mktemp("crew"))
    yield crew
    crew.close()


def blocks(data, n_workers):
    cuts = cut_points(data.train.user_counts, n_workers)
    pairs = pairwise(cuts)
    return [(slice_dataset(data, a, b), block_of(data.train, int(a))) for a, b in pairs]


def train(crew, settings, n_workers, **options):
    answers = crew.run(train_one, n_workers, settings, blocks(tastes(), n_workers), **options)
    weights, metrics, outcomes = zip(*answers, strict=True)
    copies = [name for name in weights[0] if "user" not in name]
    for other in weights[1:]:  # the copies of what all have never drift apart
        assert all(torch.equal(weights[0][name], other[name]) for name in copies)
    assert all(other == metrics[0] for other in metrics)
    return join_weights(weights), metrics[0], outcomes[0]


@cache
def alone(settings, folder):
    recommender = Recommender.from_settings(settings, device="cpu").fit(tastes(), out=folder)
    return recommender._trained().weights(), recommender.result["metrics"]


CASES = [
    ("mf", "infonce", {}),
    ("mf", "advinfonce", {}),
    ("mf", "advinfonce-budget", {"optimizer": "lazy_adam", "adv_optimizer": "lazy_adam"}),
    ("mf", "bpr", {"positives": "user", "fidelity": "published"}),
    ("lightgcn", "advinfonce", {"n_layers": 2}),
    ("lightgcn", "infonce", {"n_layers": 3, "ego_weight": 0.3}),
]


@pytest.mark.parametrize(("backbone", "loss", "more"), CASES)
@pytest.mark.parametrize("n_workers", [1, 2, 4])
def test_the_course_is_that_of_one(crew, tmp_path, backbone, loss, more, n_workers):
    settings = settings_of(backbone, loss, **more)
    kept = tmp_path.parent / f"alone-{backbone}-{loss}"
    weights, metrics = alone(settings, kept)
    choice = "rows" if n_workers == 2 else "auto"
    found, measured, outcome = train(crew, settings, n_workers, folder=tmp_path, choice=choice)
    theirs, ours = (read_log(folder / "metrics.jsonl") for folder in (kept, tmp_path))
    assert len(ours) == len(theirs) == 10  # of 5 steps each
    for one, several in zip(theirs, ours, strict=True):
        assert several["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert several.keys() - {"workers"} == one.keys()
        assert several.get("adversary_loss", 0) == pytest.approx(one.get("adversary_loss", 0), 1e-5)
        assert several.get("kl", {}) == pytest.approx(one.get("kl", {}), rel=1e-3, abs=1e-9)
        assert len(several["workers"]["communicating"]) == n_workers
    assert any("kl" in line for line in ours) == loss.startswith("adv")
    assert found.keys() == weights.keys()
    for name, table in weights.items():
        torch.testing.assert_close(found[name], table, rtol=1e-3, atol=2e-5, msg=name)
    assert {name: pytest.approx(m) for name, m in metrics.items()} == measured
    assert outcome.epochs == 10
