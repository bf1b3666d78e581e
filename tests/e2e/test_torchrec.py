"""Items in shards by TorchRec, where it is installed: the course of one that has them whole."""

import json
import threading
import time
from importlib.util import find_spec
from itertools import pairwise

import pytest
import torch

from contrarec import Recommender
from contrarec.cli import main
from contrarec.data.blocks import block_of, cut_points, slice_dataset
from contrarec.distributed import join_weights
from contrarec.training.metrics_log import read_log
from workers import Crew, settings_of, tastes, train_one

if not find_spec("torchrec"):
    pytest.skip("TorchRec is not installed: its packages replace torch", allow_module_level=True)


@pytest.fixture(scope="module", params=[2, 3])
def n_workers(request):
    return request.param


@pytest.fixture(scope="module")
def crew(tmp_path_factory, n_workers):
    """All of these workers, and no more, as in a run."""
    crew = Crew(tmp_path_factory.mktemp("crew"), (n_workers,), patience=600.0)  # to import TorchRec
    yield crew
    crew.close()


ASKED = [[[1, 7], [3, 7]], [[7, 9]], [], [[0, 0]]]
"""By each worker, of 10 rows."""
FACTORS = [2.0, 0.0, 1.0, 3.0]
"""What its loss, a sum of what it asks for, is multiplied by: the second touches with nothing."""


def look_up(group, lazy):
    """Return the rows that came, the shard's gradient, and its rows that are in it."""
    import torch.distributed as dist

    from contrarec.distributed.exchange import Exchange
    from contrarec.distributed.torchrec_tables import ShardedTable

    rank = dist.get_rank(group)
    table = ShardedTable(10, 2, Exchange(group))
    last = table.first + len(table.weight)
    with torch.no_grad():
        table.weight.copy_(torch.arange(20.0).view(10, 2)[table.first : last])
    items = torch.tensor(ASKED[rank], dtype=torch.int64).reshape(-1, 2)
    places = table.fetch(items)
    came = table.rows[places]
    (FACTORS[rank] * came).sum().backward()
    table.send_back(lazy=lazy)
    grad = table.weight.grad
    touched = grad.indices()[0] + table.first if grad.is_sparse else None
    return came.detach(), grad.to_dense(), touched


@pytest.mark.parametrize("lazy", [False, True])
def test_rows_come_and_their_gradients_are_added_up(crew, n_workers, lazy):
    expected, touched = torch.zeros(10, 2), set()
    for asked, factor in zip(ASKED[:n_workers], FACTORS, strict=False):
        for item in (item for row in asked for item in row):
            expected[item] += factor
            touched.add(item)
    answers = crew.run(look_up, n_workers, lazy)
    for asked, (came, _, _) in zip(ASKED, answers, strict=False):
        assert came.tolist() == [[[2.0 * i, 2.0 * i + 1] for i in row] for row in asked]
    assert torch.equal(torch.cat([grad for _, grad, _ in answers]), expected)
    if lazy:
        assert torch.cat([own for _, _, own in answers]).tolist() == sorted(touched)


def train(crew, settings, n_workers, data=None, **options):
    data = data or tastes()
    cuts = cut_points(data.train.user_counts, n_workers)
    blocks = [(slice_dataset(data, a, b), block_of(data.train, int(a))) for a, b in pairwise(cuts)]
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


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(crew, n_workers, tmp_path):
    settings = settings_of("mf", "advinfonce", epochs=60, optimizer="lazy_adam")
    whole, cut, stop = tmp_path / "whole", tmp_path / "cut", tmp_path / "stop"
    for folder in (whole, cut):
        folder.mkdir()

    def press():
        while len(read_log(cut / "metrics.jsonl")) < 4:
            time.sleep(0.01)
        stop.touch()

    weights, metrics, _ = train(crew, settings, n_workers, folder=whole)
    threading.Thread(target=press, daemon=True).start()
    _, _, outcome = train(crew, settings, n_workers, folder=cut, stop=stop)
    assert outcome.stopped == "interrupted"
    assert 4 <= outcome.epochs < 60
    again, measured, outcome = train(crew, settings, n_workers, folder=cut, resume=True)
    assert outcome.epochs == 60
    assert measured == metrics
    assert all(torch.equal(again[name], table) for name, table in weights.items())


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_the_command_trains_a_run_like_any_other(tmp_path, capsys):
    pytest.importorskip("ray")
    train, valid = tastes().train, tastes().valid.truth
    for name, part in (("train", train), ("valid", valid)):
        rows = [
            [part.users.ids[u], *part.items.take(part.indices[a:b])]
            for u, (a, b) in enumerate(pairwise(part.indptr))
        ]
        lines = [" ".join(map(str, row)) for row in rows if len(row) > 1]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n")
    words = ["train", str(tmp_path), "--set=epochs=10", "--set=dim=8", "--set=batch_size=48"]
    answers = []
    for name, more in (("run", ["--workers", "2", "--tables", "torchrec"]), ("alone", [])):
        assert main([*words, "--out", str(tmp_path / name), "--json", *more]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0]["tables"] == "torchrec"
    found = Recommender.load(tmp_path / "run", device="cpu")._trained().weights()
    alone = Recommender.load(tmp_path / "alone", device="cpu")._trained().weights()
    assert found.keys() == alone.keys()
    for name, table in alone.items():
        torch.testing.assert_close(found[name], table, rtol=1e-3, atol=2e-5, msg=name)
    for name, metrics in answers[1]["metrics"].items():
        assert answers[0]["metrics"][name] == pytest.approx(metrics)
