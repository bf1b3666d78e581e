"""Workers that Ray starts: killed, hanging, too many; a run like any other comes out of it."""

import json
import os
import signal
import threading
import time
from importlib.util import find_spec

import pytest

from contrarec import Recommender
from contrarec.errors import BackendError, ConfigError
from contrarec.training.metrics_log import read_log
from workers import settings_of, tastes

if not find_spec("ray"):
    pytest.skip("ray is not installed", allow_module_level=True)

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # Ray's own
    pytest.mark.usefixtures("ray"),
]


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    from contrarec.distributed.launch import load_ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # Ray writes a token there
        ray = load_ray(local=True)
        ray.init(
            address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
            logging_level="ERROR", _node_ip_address="127.0.0.1",
        )  # fmt: skip
        yield ray
        ray.shutdown()


def launch(n, **more):
    from contrarec.distributed.launch import Launch

    return Launch(workers=n, **more)


def train(settings, folder, how, **more):
    from contrarec.distributed.launch import train_together

    return train_together(settings, tastes(), folder, how, **more)


def test_a_worker_is_killed_and_the_run_ends_as_if_it_had_not_been(tmp_path):
    settings = settings_of("mf", "advinfonce", epochs=30, checkpoint_seconds=0.0)
    folder, killed = tmp_path / "run", []

    def kill():
        while len(read_log(folder / "metrics.jsonl")) < 5:
            time.sleep(0.01)
        about = json.loads((folder / "state" / "worker-00001.json").read_text())
        os.kill(about["pid"], signal.SIGKILL)
        killed.append(about["pid"])

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    result = train(settings, folder, launch(2, timeout=60))
    killer.join(1)
    log = read_log(folder / "metrics.jsonl")
    assert [line["epoch"] for line in log] == list(range(1, 31))
    again = json.loads((folder / "state" / "worker-00001.json").read_text())["pid"]
    assert again not in killed
    assert len(killed) == 1

    alone = Recommender.from_settings(settings, device="cpu").fit(tastes())
    assert result["workers"] == 2
    assert result["exchange"] == "gloo"
    for name, metrics in alone.result["metrics"].items():
        assert result["metrics"][name] == pytest.approx(metrics)
    loaded = Recommender.load(folder, device="cpu")  # the other commands read it
    found = loaded.evaluate(tastes(), bootstrap=0)["valid"].metrics()
    assert found == pytest.approx(alone.result["metrics"]["valid"])
    assert loaded.recommend([1, 2], k=3).equals(alone.recommend([1, 2], k=3)) or (
        loaded.recommend([1, 2], k=3)["item_id"].to_list()
        == alone.recommend([1, 2], k=3)["item_id"].to_list()
    )

    with pytest.raises(ConfigError, match="already holds a run"):
        train(settings, folder, launch(2))
    with pytest.raises(ConfigError, match="checkpoint is of 2 workers; resume it with"):
        train(settings, folder, launch(1), resume=True)


def test_a_diverged_run_is_not_started_again(tmp_path):
    settings = settings_of("mf", "bpr", lr=1e30)
    with pytest.raises(ConfigError, match="the loss became"):
        train(settings, tmp_path / "run", launch(1))


def test_too_many_workers_are_refused_at_once(tmp_path):
    settings = settings_of("mf", "infonce")
    for how, says in (
        (launch(3), "3 workers need 3 CPUs .1 each., and this machine has 2"),
        (launch(2, threads=2), "2 workers need 4 CPUs .2 each., and this machine has 2"),
        (launch(1, device="cuda"), "1 workers need 1 GPUs .1 each., and this machine has 0"),
    ):
        with pytest.raises(BackendError, match=says):
            train(settings, tmp_path / "run", how)
    assert not (tmp_path / "run").exists()
