"""Workers that Ray starts read Parquet parts by themselves; the run is the plain one's."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import polars as pl
import pytest

from contrarec import Recommender, runs
from parquet_parts import read_whole, write_parts

if not find_spec("ray"):
    pytest.skip("ray is not installed", allow_module_level=True)

SETTINGS = {
    "dim": "8", "batch_size": "64", "n_neg": "4", "epochs": "4", "eval_every": "2", "lr": "0.01",
}  # fmt: skip


def contrarec(home, *words):
    command = [sys.executable, "-c", "import sys; from contrarec.cli import main; sys.exit(main())"]
    return subprocess.run(
        [*command, *map(str, words)], capture_output=True, text=True, check=False, timeout=600,
        env=os.environ | {"HOME": str(home)},  # Ray writes a token there
    )  # fmt: skip


def test_two_workers_read_parts_and_train_as_the_plain_command_does(tmp_path):
    folder = write_parts(tmp_path / "log")
    words = ["train", folder.as_uri(), "--backbone", "mf", "--loss", "infonce", "--seed", "1"]
    words += [word for pair in SETTINGS.items() for word in ("--set", "=".join(pair))]
    out = tmp_path / "run"
    done = contrarec(tmp_path, *words, "--workers", 2, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["reading"]["files"] == 12
    assert result["reading"]["most_rows"] < result["reading"]["rows"]
    assert "2 workers on CPUs exchange by gloo" in done.stderr
    assert "repeated pairs collapsed" in done.stderr

    whole = read_whole(folder)
    numbers = {
        name: float(value) if "." in value else int(value) for name, value in SETTINGS.items()
    }
    alone = Recommender("mf", "infonce", seed=1, device="cpu", **numbers).fit(whole)
    for name, metrics in alone.result["metrics"].items():
        assert result["metrics"][name] == pytest.approx(metrics), name
    weights = runs.read_weights(out)
    for name, table in alone._trained().weights().items():
        np.testing.assert_allclose(weights[name], table, rtol=1e-3, atol=2e-5, err_msg=name)

    loaded = Recommender.load(out, device="cpu")
    users = ["u15", "u0", "u3"]
    ours, theirs = loaded.recommend(users, k=5), alone.recommend(users, k=5)
    assert ours["item_id"].to_list() == theirs["item_id"].to_list()
    recommended = contrarec(tmp_path, "recommend", out, "--users", "u15,u0", "--k", 3, "--json")
    assert recommended.returncode == 0, recommended.stderr
    evaluated = contrarec(tmp_path, "evaluate", out, "--json")  # reads the parts at once
    assert json.loads(evaluated.stdout)["metrics"]["ood"]["ndcg@20"] == pytest.approx(
        alone.result["metrics"]["ood"]["ndcg@20"]
    ), evaluated.stderr
    assert not (out / "state" / "partitions").exists()
    assert not (out / "state" / "blocks").exists()


def test_a_wrong_value_is_one_line_and_no_run(tmp_path):
    folder = write_parts(tmp_path / "log")
    pl.DataFrame({"user_id": ["a", ""], "item_id": ["x", "y"]}).write_parquet(
        folder / "train" / "9.parquet"
    )
    out = tmp_path / "run"
    words = ["--backbone", "mf", "--loss", "infonce", "--workers", 2, "--out", out]
    done = contrarec(tmp_path, "train", folder, *words)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if "error" in line]
    assert lines == [f"contrarec: error: {folder}/train/9.parquet: row 2: `user_id` is missing."], (
        done.stderr
    )
    assert not (out / "config.toml").exists()
