"""`contrarec train --track`: what the tools' own readers find."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.tools import Answer, settings
from contrarec import runs
from contrarec.training.loop import Hooks
from contrarec.training.metrics_log import read_log
from contrarec.training.tracking import tracking

Call = Callable[..., Answer]


def curves(log: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Name → (epoch, value), as they have to be found."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in log:
        points = {name: line[name] for name in ("loss", "adversary_loss") if name in line}
        for group, values in {**line.get("metrics", {}), "kl": line.get("kl", {})}.items():
            points |= {f"{group}/{name}": value for name, value in values.items()}
        for name, value in points.items():
            found.setdefault(name, []).append((line["epoch"], value))
    return found


def best_of(log: list[dict[str, Any]]) -> dict[str, Any]:
    lines = [line["metrics"] for line in log if "metrics" in line]
    return max(lines, key=lambda metrics: metrics["valid"]["recall@10"])


def read_events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def test_tensorboard(contrarec: Call, folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    answer = contrarec("train", folder, "--out", run, "--track", "tensorboard", *settings())
    assert answer.status == 0
    log, events = read_log(run / "metrics.jsonl"), read_events(run / "tensorboard")
    wanted = curves(log)
    assert {"loss", "adversary_loss", "valid/recall@10", "ood/ndcg@5", "kl/mean"} <= set(wanted)
    best = {f"best/{group}/{name}": value for group, values in best_of(log).items()
            for name, value in values.items()}  # fmt: skip
    assert set(events.Tags()["scalars"]) == set(wanted) | set(best)
    for name, points in wanted.items():
        found = events.Scalars(name)
        assert [event.step for event in found] == [epoch for epoch, _ in points]
        assert [event.value for event in found] == pytest.approx([value for _, value in points])
    assert events.Scalars("best/valid/recall@10")[0].value == pytest.approx(
        best["best/valid/recall@10"]
    )
    kept = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    for text in (b"loss.tau", b"training.ks", b"5, 10", b"advinfonce"):
        assert text in kept


def test_tensorboard_elsewhere(contrarec: Call, folder: Path, tmp_path: Path) -> None:
    arguments = ["--track", "tensorboard", "--track-to", tmp_path / "board", "--loss", "popularity"]
    assert contrarec("train", folder, "--out", tmp_path / "one", *arguments).status == 0
    events = read_events(tmp_path / "board" / "one")
    assert len(events.Scalars("valid/recall@20")) == 1
    assert not (tmp_path / "one" / "tensorboard").exists()


def test_what_a_resumed_run_does_again_is_shown_once(tmp_path: Path, run: Path) -> None:
    chosen = runs.read_settings(run)[0]
    for epochs in (1, 2, 3), (3, 4):  # stopped in the fourth, after the checkpoint of the second
        if epochs[0] == 3:
            time.sleep(1.1)  # TensorBoard orders files by names that begin with the second
        with tracking("tensorboard", Hooks(), folder=tmp_path, settings=chosen) as hooks:
            for epoch in epochs:
                assert hooks.on_epoch
                hooks.on_epoch({"epoch": epoch, "loss": epoch + 0.5 * (epochs[0] == 3)})
    found = [
        (event.step, event.value) for event in read_events(tmp_path / "tensorboard").Scalars("loss")
    ]
    assert found == [(1, 1.0), (2, 2.0), (3, 3.5), (4, 4.5)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where MLflow's runs go: a database takes seconds to make."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/runs.db"


def mlflow_run(client: Any, name: str) -> Any:
    experiment = client.get_experiment_by_name("contrarec")
    found = client.search_runs([experiment.experiment_id])
    (run,) = (run for run in found if run.info.run_name == name)
    return run


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of MLflow's own packages
def test_mlflow(contrarec: Call, folder: Path, tmp_path: Path, place: str) -> None:
    import mlflow

    run = tmp_path / "run"
    arguments = ["--track", "mlflow", "--track-to", place]
    assert contrarec("train", folder, "--out", run, *arguments, *settings()).status == 0
    client = mlflow.MlflowClient(tracking_uri=place)
    found = mlflow_run(client, "run")
    assert found.info.status == "FINISHED"
    assert found.data.params["loss.tau"] == "0.2"
    assert found.data.params["training.ks"] == "5, 10"
    log = read_log(run / "metrics.jsonl")
    for name, points in curves(log).items():
        history = client.get_metric_history(found.info.run_id, name.replace("@", "_at_"))
        assert [(point.step, point.value) for point in history] == points
    assert found.data.metrics["best/valid/recall_at_10"] == best_of(log)["valid"]["recall@10"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_hooks_beside_are_called_and_a_failure_is_marked(
    tmp_path: Path, run: Path, place: str
) -> None:
    import mlflow

    seen: list[dict[str, Any]] = []
    chosen = runs.read_settings(run)[0]

    def fail() -> None:
        hooks = Hooks(on_epoch=seen.append)
        with tracking("mlflow", hooks, folder=tmp_path, settings=chosen, to=place) as joined:
            assert joined.on_epoch
            joined.on_epoch({"epoch": 1, "loss": 0.5})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert seen == [{"epoch": 1, "loss": 0.5}]
    client = mlflow.MlflowClient(tracking_uri=place)
    assert mlflow_run(client, tmp_path.name).info.status == "FAILED"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_place_that_mlflow_refuses_is_said_before_training(
    contrarec: Call, folder: Path, tmp_path: Path
) -> None:
    start = ["train", folder, "--out", tmp_path / "run", "--track", "mlflow"]
    answer = contrarec(*start, "--track-to", "nowhere://x")
    assert answer.status == 2
    assert "--track-to 'nowhere://x'" in answer.err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_nothing_is_opened_for_a_run_that_was_finished(tmp_path: Path, run: Path) -> None:
    chosen = runs.read_settings(run)[0]
    with tracking("tensorboard", Hooks(), folder=tmp_path, settings=chosen):
        pass
    assert os.listdir(tmp_path) == []
