"""Progress of a training run: a bar on a terminal, one line per evaluation elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from contrarec.config import TrainingConfig
from contrarec.sampling import Phase
from contrarec.training.loop import Hooks, Metrics
from contrarec.training.metrics_log import read_log

_REDRAW_SECONDS = 0.1


@contextmanager
def progress(
    config: TrainingConfig,
    *,
    folder: Path | None = None,
    title: str = "",
    stream: TextIO | None = None,
) -> Iterator[Hooks]:
    """Show how training goes while the block runs.

    Args:
        config: says how many epochs there are at most and which metric picks the best.
        folder: the run's folder; a resumed run finds its best so far in the log there.
        title: starts the bar or each line, to tell several runs apart.
        stream: where to; standard error if None.

    Yields:
        The hooks to train with.
    """
    stream = sys.stderr if stream is None else stream
    status = _Status(config, folder)
    if not stream.isatty():
        yield _line_hooks(status, title, stream)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[status]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(file=stream), refresh_per_second=4) as bars:
        yield _bar_hooks(status, title, bars)


class _Status:
    """Where training stands, in words."""

    def __init__(self, config: TrainingConfig, folder: Path | None) -> None:
        self._config = config
        self._log = folder / "metrics.jsonl" if folder else None
        self._epoch = 0
        self._fitted = False
        self._loss: float | None = None
        self._best: float | None = None
        self._best_epoch = 0

    def on_eval(self, epoch: int, metrics: Metrics, improved: bool) -> None:  # noqa: ARG002
        if self._best is None and self._log:
            # by now the log holds what the run being resumed had finished, and no more
            for line in read_log(self._log):
                self._look(line["epoch"], line.get("metrics", {}))
        self._look(epoch, metrics)

    def on_epoch(self, line: dict[str, Any]) -> None:
        self._epoch, self._loss = line["epoch"], line.get("loss")
        self._fitted = line["epoch"] == 0  # a baseline has no epochs and no loss

    def _look(self, epoch: int, metrics: Metrics) -> None:
        value = metrics.get("valid", {}).get(self._config.monitor)
        if value is not None and (self._best is None or value > self._best):
            self._best, self._best_epoch = value, epoch

    def __str__(self) -> str:
        parts = ["fitted" if self._fitted else f"epoch {self._epoch}/{self._config.epochs}"]
        if self._loss is not None:
            parts.append(f"loss {self._loss:.4f}")
        if self._best is not None:
            since = self._epoch - self._best_epoch
            ago = "" if self._fitted else f" ({since} epochs ago)"
            parts.append(f"best {self._config.monitor} {self._best:.4f}{ago}")
        return ", ".join(parts)


def _line_hooks(status: _Status, title: str, stream: TextIO) -> Hooks:
    start = f"{title}: " if title else ""

    def on_epoch(line: dict[str, Any]) -> None:
        status.on_epoch(line)
        if "metrics" in line:
            print(f"{start}{status}, {line['seconds']:.1f} s", file=stream, flush=True)

    return Hooks(on_epoch=on_epoch, on_eval=status.on_eval)


def _bar_hooks(status: _Status, title: str, bars: Any) -> Hooks:
    config = status._config
    task = bars.add_task(title or "training", total=config.epochs, status="")
    drawn = 0.0

    def on_step(epoch: int, phase: Phase, step: int, n_steps: int) -> None:
        nonlocal drawn
        now = time.perf_counter()
        if now - drawn < _REDRAW_SECONDS:  # a short step must not wait for its bar
            return
        drawn = now
        done = epoch + (step / n_steps if phase == "min" else 0)
        turn = ", adversary's turn" if phase == "max" else ""
        bars.update(task, completed=done, status=f"{status}{turn}")

    def on_epoch(line: dict[str, Any]) -> None:
        status.on_epoch(line)
        bars.update(task, completed=line["epoch"], status=str(status))

    return Hooks(on_step=on_step, on_epoch=on_epoch, on_eval=status.on_eval)
