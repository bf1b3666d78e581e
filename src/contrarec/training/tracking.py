"""Tell TensorBoard or MLflow what `metrics.jsonl` is told."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from contrarec.errors import BackendError, ConfigError, unknown
from contrarec.settings import Settings
from contrarec.training.loop import Hooks
from contrarec.training.metrics_log import read_log

EXPERIMENT = "contrarec"
"""What the runs belong to in MLflow."""

Figures = Mapping[str, float]


class Tracker(Protocol):
    """Where the figures of one run go."""

    def log(self, epoch: int, figures: Figures) -> None:
        """Take the figures of an epoch."""

    def close(self, best: Figures, *, failed: bool) -> None:
        """Take those of the best epoch; nothing comes after."""


class TensorBoard:
    """Event files in a folder of the run's name.

    Args:
        run: the run's folder.
        to: where that folder is made; within the run's own, as `tensorboard`, if None.
        settings: shown as hyper-parameters.
        first: the first epoch; what a stopped run logged from there on is hidden.
    """

    def __init__(self, run: Path, to: str | None, settings: Mapping[str, Any], first: int) -> None:
        folder = Path(to) / run.name if to else run / "tensorboard"
        self._writer = load_tensorboard().SummaryWriter(str(folder), purge_step=first)
        self._settings = {key: _shown(value) for key, value in settings.items()}

    def log(self, epoch: int, figures: Figures) -> None:
        """Write a point of each curve."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self, best: Figures, *, failed: bool) -> None:  # noqa: ARG002
        """Write the line of the table of hyper-parameters."""
        best = {f"best/{name}": value for name, value in best.items()}
        self._writer.add_hparams(self._settings, best, run_name=".")
        self._writer.close()


class MLflow:
    """A run of the experiment `contrarec`; the arguments are those of `TensorBoard`.

    `to` is an address such as `sqlite:///runs.db` or `http://host:5000`; what MLflow's own
    environment says if None. A run that was stopped goes on as another one of the same name.
    """

    def __init__(self, run: Path, to: str | None, settings: Mapping[str, Any], first: int) -> None:  # noqa: ARG002
        self._mlflow = load_mlflow()
        self._client = self._mlflow.MlflowClient(tracking_uri=to)
        known = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = known.experiment_id if known else self._client.create_experiment(EXPERIMENT)
        self._id = self._client.create_run(experiment, run_name=run.name).info.run_id
        parameter = self._mlflow.entities.Param
        params = [parameter(key, str(_shown(value))) for key, value in settings.items()]
        self._client.log_batch(self._id, params=params)

    def log(self, epoch: int, figures: Figures) -> None:
        """Write a point of each curve."""
        metric, now = self._mlflow.entities.Metric, int(time.time() * 1000)
        metrics = [
            # an @ is not allowed in its names
            metric(name.replace("@", "_at_"), value, now, epoch)
            for name, value in figures.items()
        ]
        self._client.log_batch(self._id, metrics=metrics)

    def close(self, best: Figures, *, failed: bool) -> None:
        """Write the figures of the best epoch beside the curves."""
        self.log(0, {f"best/{name}": value for name, value in best.items()})
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")


TRACKERS: dict[str, Callable[[Path, str | None, Mapping[str, Any], int], Tracker]] = {
    "mlflow": MLflow,
    "tensorboard": TensorBoard,
}


@contextmanager
def tracking(
    kind: str, hooks: Hooks, *, folder: Path, settings: Settings, to: str | None = None
) -> Iterator[Hooks]:
    """Log each epoch while the block runs: losses, metrics of each set, the adversary's KL.

    Nothing is opened before an epoch has ended, so a run that had been finished adds nothing.

    Args:
        kind: a name in `TRACKERS`.
        hooks: what is called beside.
        folder: the run's, with its `metrics.jsonl`.
        settings: the run's, logged as hyper-parameters.
        to: see the classes.

    Yields:
        The hooks to train with.
    """
    tracker: Tracker | None = None
    failed = True

    def on_epoch(line: dict[str, Any]) -> None:
        nonlocal tracker
        if hooks.on_epoch:
            hooks.on_epoch(line)
        if tracker is None:
            tracker = TRACKERS[kind](folder, to, settings.flat(), line["epoch"])
        tracker.log(line["epoch"], _figures(line))

    try:
        yield replace(hooks, on_epoch=on_epoch)
        failed = False
    finally:
        if tracker:
            tracker.close(_best(folder, settings.training.monitor), failed=failed)


def check_tracking(kind: str, to: str | None = None) -> None:
    """Refuse what could not be tracked, before there is something to track.

    Raises:
        ConfigError: the kind is unknown, or MLflow cannot log there.
        BackendError: its package is not installed.
    """
    if kind not in TRACKERS:
        raise ConfigError(unknown("tracking", kind, TRACKERS))
    if kind == "tensorboard":
        load_tensorboard()
        return
    mlflow = load_mlflow()
    try:
        mlflow.MlflowClient(tracking_uri=to).get_experiment_by_name(EXPERIMENT)
    except (mlflow.MlflowException, ImportError) as error:
        where = "" if to is None else f" {to!r}"
        raise ConfigError(f"--track-to{where}: MLflow cannot log there ({error}).") from error


def load_tensorboard() -> Any:
    """Import torch's writer for TensorBoard.

    Raises:
        BackendError: TensorBoard is not installed.
    """
    try:
        from torch.utils import tensorboard
    except ImportError as error:
        raise _missing("tensorboard", error) from error
    return tensorboard


def load_mlflow() -> Any:
    """Import MLflow; its skinny distribution has all that is needed.

    Raises:
        BackendError: it is not installed.
    """
    try:
        import mlflow
    except ImportError as error:
        raise _missing("mlflow", error) from error
    return mlflow


def _missing(package: str, error: ImportError) -> BackendError:
    return BackendError(
        f"tracking needs the package {package}: pip install 'contrarec[track]' ({error})."
    )


def _figures(line: Mapping[str, Any]) -> dict[str, float]:
    """Name the numbers of an epoch: `loss`, `kl/mean`, `valid/recall@20`."""
    figures = {name: line[name] for name in ("loss", "adversary_loss") if name in line}
    for group, values in {"kl": line.get("kl", {}), **line.get("metrics", {})}.items():
        figures |= {f"{group}/{name}": value for name, value in values.items()}
    return figures


def _best(folder: Path, monitor: str) -> dict[str, float]:
    """Return the metrics of the epoch that was kept; the last one's without a validation set."""
    lines = [line for line in read_log(folder / "metrics.jsonl") if "metrics" in line]
    if not lines:
        return {}
    valid = [line["metrics"].get("valid", {}).get(monitor, 0.0) for line in lines]
    best = lines[valid.index(max(valid))] if any(valid) else lines[-1]
    return _figures({"metrics": best["metrics"]})


def _shown(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list) else value
