"""Items in shards by TorchRec, where it is installed: the course of one that has them whole."""

from importlib.util import find_spec
from itertools import pairwise

import pytest
import torch

from contrarec import Recommender
from contrarec.data.blocks import block_of, cut_points, slice_dataset
from contrarec.distributed import join_weights
from contrarec.training.metrics_log import read_log
from workers import Crew, settings_of, tastes, train_one

if not find_spec("torchrec"):
    pytest.skip("torchrec is not installed, see docs/scale.md", allow_module_level=True)


@pytest.fixture(scope="module")
def crew(tmp_path_factory):
    crew = Crew(tmp_path_factory.mktemp("crew"))
    yield crew
    crew.close()


def train(crew, settings, n_workers, data=None, **options):
    data = data or tastes()
    cuts = cut_points(data.train.user_counts, n_workers)
    blocks = [
        (slice_dataset(data, a, b), block_of(data.train, int(a))) for a, b in pairwise(cuts)
    ]
    answers = crew.run(train_one, n_workers, settings, blocks, tables="torchrec", **options)
    weights, metrics, outcomes = zip(*answers, strict=True)
    assert all(other == metrics[0] for other in metrics)
    items = [len(part["backbone.item_table"]) for part in weights]
    assert max(items) == -(-data.train.n_items // n_workers)  # nobody has them all
    return join_weights(weights, "torchrec"), metrics[0], outcomes[0]


CASES = [
    ("infonce", {}),
    ("infonce", {"optimizer": "lazy_adam", "l2": 0.0}),
    ("advinfonce", {}),
    ("advinfonce", {"optimizer": "lazy_adam", "adv_optimizer": "lazy_adam"}),
    ("infonce-popularity", {"positives": "user"}),
]


@pytest.mark.parametrize(("loss", "more"), CASES)
@pytest.mark.parametrize("n_workers", [1, 2, 4])
def test_the_course_is_that_of_one(crew, tmp_path, loss, more, n_workers):
    settings = settings_of("mf", loss, **more)
    alone = Recommender.from_settings(settings, device="cpu")
    alone.fit(tastes(), out=tmp_path / "alone")
    found, measured, outcome = train(crew, settings, n_workers, folder=tmp_path)
    theirs, ours = (read_log(folder / "metrics.jsonl") for folder in (tmp_path / "alone", tmp_path))
    assert len(ours) == len(theirs) == 10  # of 5 steps each
    for one, several in zip(theirs, ours, strict=True):
        assert several["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert several.get("adversary_loss", 0) == pytest.approx(one.get("adversary_loss", 0), 1e-5)
        assert several.get("kl", {}) == pytest.approx(one.get("kl", {}), rel=1e-3, abs=1e-9)
    weights = alone._trained().weights()
    assert found.keys() == weights.keys()
    for name, table in weights.items():
        torch.testing.assert_close(found[name], table, rtol=1e-3, atol=2e-5, msg=name)
    assert {n: pytest.approx(m) for n, m in alone.result["metrics"].items()} == measured
    assert outcome.epochs == 10
