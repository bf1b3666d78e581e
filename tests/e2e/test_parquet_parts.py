"""Workers that Ray starts read Parquet parts by themselves; the run is the plain one's."""

from importlib.util import find_spec

import numpy as np
import polars as pl
import pytest

from benchmarks import workers
from contrarec import Dataset, Recommender, runs
from contrarec.distributed.parquet_parts import find_parted
from contrarec.errors import DataError
from contrarec.settings import resolve_settings
from parquet_parts import read_whole, write_parts

if not find_spec("ray"):
    pytest.skip("ray is not installed", allow_module_level=True)

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # Ray's own
    pytest.mark.usefixtures("cluster"),
]
SETTINGS = resolve_settings(
    backbone="mf", loss="infonce", seed=1,
    overrides={"dim": 8, "batch_size": 64, "n_neg": 4, "epochs": 4, "eval_every": 2, "lr": 0.01},
)  # fmt: skip


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # Ray writes a token there
        with workers.cluster(2) as address:
            yield address


def train(folder, out, **more):
    from contrarec.distributed.launch import Launch, train_together

    data = find_parted(folder.as_uri(), {})
    return train_together(SETTINGS, data, out, Launch(workers=2), **more)


def test_two_workers_read_parts_and_train_as_the_plain_command_does(tmp_path):
    folder, out, notes = write_parts(tmp_path / "log"), tmp_path / "run", []
    result = train(folder, out, note=notes.append)
    assert result["reading"]["files"] == 12
    assert result["reading"]["most_rows"] < result["reading"]["rows"]
    assert "2 workers on CPUs exchange by gloo" in notes
    assert any("repeated pairs collapsed" in note for note in notes)

    whole = read_whole(folder)
    alone = Recommender.from_settings(SETTINGS, device="cpu").fit(whole)
    for name, metrics in alone.result["metrics"].items():
        assert result["metrics"][name] == pytest.approx(metrics), name
    weights = runs.read_weights(out)
    for name, table in alone._trained().weights().items():
        np.testing.assert_allclose(weights[name], table, rtol=1e-3, atol=2e-5, err_msg=name)

    loaded = Recommender.load(out, device="cpu")
    users = ["u15", "u0", "u3"]
    ours, theirs = loaded.recommend(users, k=5), alone.recommend(users, k=5)
    assert ours["item_id"].to_list() == theirs["item_id"].to_list()
    (folder / "train" / "empty.parquet").unlink()  # its items are numbers, the others' texts
    again = Dataset.load(runs.read_settings(out)[1].path)  # what other commands look for
    assert again.fingerprint() == runs.read_settings(out)[1].fingerprint
    assert not (out / "state" / "partitions").exists()
    assert not (out / "state" / "blocks").exists()

    extra = pl.DataFrame({"user_id": ["new"], "item_id": ["i1"]})
    extra.write_parquet(folder / "valid" / "9.parquet")
    with pytest.raises(DataError, match="was trained on other data"):
        train(folder, out, resume=True)


def test_a_wrong_value_that_a_task_finds_is_one_line_and_no_run(tmp_path):
    folder = write_parts(tmp_path / "log")
    frame = pl.DataFrame({"user_id": ["a", ""], "item_id": ["x", "y"]})
    frame.write_parquet(folder / "train" / "9.parquet")
    with pytest.raises(DataError) as caught:
        train(folder, tmp_path / "run")
    assert str(caught.value) == f"{folder}/train/9.parquet: row 2: `user_id` is missing."
    assert not (tmp_path / "run" / "config.toml").exists()


def test_the_benchmark_of_workers_measures_the_command_line(tmp_path, capsys):
    record = tmp_path / "workers.csv"
    words = ["--short", "--interactions", "4000", "--workers", "2", "--out", str(record)]
    plain, two = workers.main(words)
    assert (plain["workers"], two["workers"]) == (0, 2)
    for row in (plain, two):
        assert row["seconds"] > 0
        assert row["peak_mib"] > 50
    assert plain["most_rows"] is None
    assert two["most_rows"] < 4000
    assert 0 < two["communicating"] < 1
    assert two["mib_received"] > 0
    assert len(record.read_text().splitlines()) == 3
    assert "× plain" in capsys.readouterr().out
