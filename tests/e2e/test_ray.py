"""Workers that Ray starts, on three machines: killed, interrupted, too many; results as of one."""

import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from cli.tools import command
from contrarec import Dataset, Recommender
from contrarec.cli import main
from contrarec.distributed.cluster import Launch
from contrarec.errors import BackendError, ConfigError
from contrarec.training.metrics_log import read_log
from workers import SETTINGS, settings_of, tastes

if not find_spec("ray"):
    pytest.skip("ray is not installed", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own
ROOT = Path(__file__).resolve().parents[2]
READ = {".csv": pl.read_csv, ".parquet": pl.read_parquet}


def start(cluster, machine):
    """Add a machine; Ray gives up after half a minute, which a busy computer may need."""
    for patience in (2, 1, 0):
        try:
            cluster.add_node(**machine)
        except Exception:
            if not patience:
                raise
        else:
            return


@pytest.fixture(scope="module")
def address():
    """Of a cluster of three machines with a CPU each, all of them this one."""
    from contrarec.distributed.cluster import load_ray

    # a folder with a short name, since sockets lie in it
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ray") as home:
        patch.setenv("HOME", home)  # Ray writes a token there
        ray = load_ray(local=True, train=True)
        from ray.cluster_utils import Cluster

        machine = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "temp_dir": home}
        machine |= {"include_dashboard": False, "include_log_monitor": False}
        cluster = Cluster()
        for _ in range(3):
            start(cluster, machine)
        yield cluster.address
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def machines(address):
    """That address, in a process that has joined already: its workers need not start each time."""
    import ray

    if not ray.is_initialized():
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    return address


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files of `tastes`."""
    data, path = tastes(), tmp_path_factory.mktemp("tastes")
    parts = {
        "train": data.train,
        "valid": data.valid.truth,
        "test_other": data.tests["other"].truth,
    }
    for name, part in parts.items():
        pairs = enumerate(pairwise(part.indptr))
        rows = [[part.users.ids[u], *part.items.take(part.indices[a:b])] for u, (a, b) in pairs]
        lines = [" ".join(map(str, row)) for row in rows if len(row) > 1]
        (path / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return path


def options(**more):
    values = {key: value for key, value in (SETTINGS | more).items() if key != "ks"}
    return [f"--set={key}={value}" for key, value in values.items()] + ["--set=ks=5,10"]


def ask(capsys, *arguments):
    """Run a command in this process; its JSON."""
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def whereabouts(run, rank=0):
    return json.loads((run / "state" / f"worker-{rank:05d}.json").read_text())


def kill_once(run, rank, epochs, killed, by=signal.SIGKILL):
    """Send a worker a signal as soon as its run has a few epochs."""

    def kill():
        while len(read_log(run / "metrics.jsonl")) < epochs:
            time.sleep(0.01)
        killed.append(whereabouts(run, rank)["pid"])
        os.kill(killed[0], by)

    threading.Thread(target=kill, daemon=True).start()


def launch(n, **more):
    return Launch(workers=n, **more)


def train(settings, run, how, data=None, **more):
    from contrarec.distributed.launch import train_together

    return train_together(settings, data or tastes(), run, how, **more)


def without_seconds(value):
    if isinstance(value, dict):
        return {
            key: without_seconds(part)
            for key, part in value.items()
            if "second" not in key and key not in ("out", "preset_file")
        }
    return [without_seconds(part) for part in value] if isinstance(value, list) else value


def test_a_worker_is_killed_and_the_run_ends_as_if_it_had_not_been(
    machines, folder, tmp_path, capsys
):
    run, killed = tmp_path / "run", []
    kill_once(run, 1, 5, killed)
    more = options(epochs=30, checkpoint_seconds=0.0, adv_interval=3, adv_lr=0.01, adv_dim=8)
    cluster = ["--workers", 3, "--ray-address", machines]
    result = ask(capsys, "train", folder, "--seed", 3, "--out", run, *more, *cluster)
    assert [line["epoch"] for line in read_log(run / "metrics.jsonl")] == list(range(1, 31))
    assert len(killed) == 1
    assert whereabouts(run, 1)["pid"] not in killed
    assert len({whereabouts(run, rank)["node"] for rank in range(3)}) == 3

    data, loaded = Dataset.load(folder), Recommender.load(run, device="cpu")
    found = loaded.evaluate(data, bootstrap=0)["valid"].metrics()  # other commands read it
    alone = Recommender.from_settings(loaded.settings, device="cpu").fit(data)
    lists = [model.recommend([1, 2], k=3)["item_id"].to_list() for model in (loaded, alone)]
    assert lists[0] == lists[1]
    assert result["workers"] == 3
    assert result["exchange"] == "gloo"
    for name, metrics in alone.result["metrics"].items():
        assert result["metrics"][name] == pytest.approx(metrics)
    assert found == pytest.approx(alone.result["metrics"]["valid"])

    settings, there = alone.settings, {"address": machines}
    with pytest.raises(ConfigError, match="already holds a run"):
        train(settings, run, launch(3, **there))
    with pytest.raises(ConfigError, match="checkpoint is of 3 workers; resume it with"):
        train(settings, run, launch(1, **there), data, resume=True)


def test_a_worker_that_hangs_is_given_up_in_time(machines, tmp_path):
    run, hung = tmp_path / "run", []
    kill_once(run, 1, 3, hung, by=signal.SIGSTOP)
    settings = settings_of("mf", "infonce", epochs=12, checkpoint_seconds=0.0)
    started = time.monotonic()
    result = train(settings, run, launch(2, address=machines, timeout=15.0))
    assert time.monotonic() - started < Launch(workers=2).timeout  # what it waits if not told
    assert len(hung) == 1
    assert whereabouts(run, 1)["pid"] not in hung
    alone = Recommender.from_settings(settings, device="cpu").fit(tastes())
    assert result["epochs"] == 12
    for name, metrics in alone.result["metrics"].items():
        assert result["metrics"][name] == pytest.approx(metrics)


def test_the_driver_is_killed_and_the_run_goes_on(machines, folder, tmp_path, capsys):
    run, more = tmp_path / "run", options(epochs=60, checkpoint_seconds=0.0)
    cluster = ["--workers", 2, "--ray-address", machines]
    words = command("train", folder, "--out", run, *more, "--loss", "infonce", *cluster)
    driver = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(read_log(run / "metrics.jsonl")) < 3 and driver.poll() is None:
        time.sleep(0.01)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    assert not (run / "result.json").exists()
    first = read_log(run / "metrics.jsonl")[0]
    result = ask(capsys, "train", folder, "--out", run, "--resume", *cluster)
    log = read_log(run / "metrics.jsonl")
    assert log[0] == first  # to the millisecond: it did not start over
    assert [line["epoch"] for line in log] == list(range(1, 61))
    alone = Recommender.from_settings(Recommender.load(run).settings, device="cpu")
    for name, metrics in alone.fit(Dataset.load(folder)).result["metrics"].items():
        assert result["metrics"][name] == pytest.approx(metrics)


def test_a_diverged_run_is_not_started_again(machines, tmp_path):
    settings = settings_of("mf", "bpr", lr=1e30)
    with pytest.raises(ConfigError, match="the loss became"):
        train(settings, tmp_path / "run", launch(1, address=machines))


def test_too_many_workers_are_refused_at_once(address, tmp_path):
    import ray

    ray.shutdown()  # they are refused by a process that has not joined
    settings = settings_of("mf", "infonce")
    for how, says in (
        (launch(9999), "9999 workers need 9999 CPUs .1 each., and this machine has"),
        (launch(4, address=address), r"4 workers need 4 CPUs .1 each., and 127\S+ has 3"),
        (launch(1, address=address, threads=2), "2 CPUs .2 each.*3 .1 on one machine at most"),
        (launch(1, address=address, device="cuda"), "1 workers need 1 GPUs .1 each.* has 0"),
    ):
        with pytest.raises(BackendError, match=says):
            train(settings, tmp_path / "run", how)
    with pytest.raises(BackendError, match="no Ray cluster at '127"):
        train(settings, tmp_path / "run", launch(1, address="127.0.0.1:1"))
    assert not (tmp_path / "run").exists()


def test_ctrl_c_saves_what_workers_do_and_the_run_goes_on(machines, folder, tmp_path, capsys):
    """With a cluster of its own, and a terminal's Ctrl-C: for all processes of the command."""
    run, more = tmp_path / "run", options(epochs=120, eval_every=60)
    words = command("train", folder, "--out", run, *more, "--loss", "infonce", "--workers", 1)
    process = subprocess.Popen(
        words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    while len(read_log(run / "metrics.jsonl")) < 3 and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    err = process.communicate(timeout=120)[1]
    assert process.returncode == 130, err
    epochs = len(read_log(run / "metrics.jsonl"))
    assert 3 <= epochs < 120
    assert f"interrupted after {epochs} epochs and saved; go on with: contrarec train" in err
    assert "Traceback" not in err
    assert not (run / "result.json").exists()

    ask(
        capsys, "train", folder, "--out", run, "--resume", "--workers", 1, "--ray-address", machines
    )
    log = read_log(run / "metrics.jsonl")
    assert [line["epoch"] for line in log] == list(range(1, 121))


class TestCompare:
    def words(self, folder, out, *more):
        methods = ["--methods", "infonce,bpr,popularity", "--seeds", 2]
        return ["compare", folder, *methods, *options(epochs=40), "--out", out, *more]

    def test_on_three_machines_with_a_killed_worker(self, machines, folder, tmp_path, capsys):
        alone = ask(capsys, *self.words(folder, tmp_path / "alone", "--threads", 1))
        out, killed = tmp_path / "out", []
        kill_once(out / "mf-bpr-1", 0, 5, killed)
        cluster = ["--workers", 3, "--ray-address", machines]
        found = ask(capsys, *self.words(folder, out, *cluster, "--set=checkpoint_seconds=0"))
        del found["overrides"], alone["overrides"]
        assert without_seconds(found) == without_seconds(alone)
        assert len(killed) == 1
        where = [whereabouts(run) for run in out.iterdir() if run.is_dir()]
        assert len(where) == 6
        assert len({about["node"] for about in where}) > 1
        assert killed[0] != whereabouts(out / "mf-bpr-1")["pid"]

    def test_a_diverged_run_ends_it(self, machines, folder, tmp_path, capsys):
        words = self.words(folder, tmp_path, "--workers", 2, "--ray-address", machines)
        assert main([*map(str, words), "--set=bpr.lr=1e30"]) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert re.search("mf-bpr-[01]: the loss became", said)  # whichever is first


def test_tune_finds_what_it_finds_alone(machines, folder, tmp_path, capsys):
    pytest.importorskip("optuna")
    tune = ["tune", folder, "--methods", "infonce,bpr", "--trials", 3, *options()]
    alone = ask(capsys, *tune, "--out", tmp_path / "alone", "--threads", 1)
    cluster = ["--workers", 2, "--ray-address", machines]
    found = ask(capsys, *tune, "--out", tmp_path / "out", *cluster)
    assert without_seconds(found) == without_seconds(alone)


@pytest.mark.parametrize("loss", ["infonce", "itemknn"])
def test_users_are_divided_and_nothing_else_changes(
    machines, folder, tmp_path, capsys, monkeypatch, loss
):
    """A model whose blocks of users are vectors, and a baseline that has none."""
    from contrarec.distributed import recommending
    from contrarec.distributed.parts import cut_rows
    from contrarec.serving import batch

    run, cluster = tmp_path / "run", ["--workers", 3, "--ray-address", machines]
    words = ["train", folder, "--loss", loss, "--out", run]
    ask(capsys, *words, *(options() if loss == "infonce" else ()))
    for module in (batch, recommending):  # 40 users are one block
        monkeypatch.setattr(module, "BLOCK", 9)
    monkeypatch.setattr(
        "contrarec.distributed.ranking.cut_rows", lambda n, parts, _: cut_rows(n, parts, 7)
    )
    exclude = tmp_path / "exclude.csv"
    exclude.write_text("user_id,item_id\n1,3\n2,4\n30,5\n")
    for suffix, more in ((".csv", ["--exclude", exclude]), (".parquet", ["--explain"])):
        tables = [tmp_path / f"{name}{suffix}" for name in ("alone", "together")]
        recommend = ["recommend", run, "--users", "all", "--k", 4, *more]
        said = [
            without_seconds(ask(capsys, *recommend, "--out", table, *where))
            for table, where in zip(tables, ([], cluster), strict=True)
        ]
        assert said[0] == said[1]
        assert "no training history" in said[0]["notes"][0]
        if suffix == ".csv":
            assert tables[0].read_bytes() == tables[1].read_bytes()
        assert READ[suffix](tables[0]).equals(READ[suffix](tables[1]))
    assert ask(capsys, "evaluate", run, *cluster) == ask(capsys, "evaluate", run)
    left = [path.name for path in tmp_path.iterdir() if ".parts" in path.name]
    assert left == []


def test_the_example_of_a_cluster_is_one_that_ray_takes():
    import yaml
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load((ROOT / "examples" / "cluster.yaml").read_text()))
    validate_config(config)
    assert config["max_workers"] == len(config["provider"]["worker_ips"]) == 2
    assert any("GLOO_SOCKET_IFNAME" in line for line in config["worker_start_ray_commands"])
