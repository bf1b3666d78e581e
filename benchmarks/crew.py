"""Processes on the loopback address that train together without Ray, and stay for the next run."""

import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from contrarec.data.blocks import Block
from contrarec.data.dataset import Dataset
from contrarec.settings import Settings

Parts = list[tuple[Dataset, Block]]
_PATIENCE = timedelta(minutes=10)


class Crew:
    """As many processes as the largest of some numbers of workers.

    Args:
        sizes: numbers of workers that will train together.
        meeting: a file, not there yet, by which they find each other.
    """

    def __init__(self, sizes: tuple[int, ...], meeting: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes, self._processes = [], []
        for rank in range(max(sizes)):
            here, there = context.Pipe()
            process = context.Process(
                target=_serve, args=(there, rank, sizes, str(meeting)), daemon=True
            )
            process.start()
            self._pipes.append(here)
            self._processes.append(process)

    def train(self, settings: Settings, parts: Parts) -> tuple[Any, Any]:
        """Train a run, a process for each block; return the outcome and the metrics."""
        pipes = self._pipes[: len(parts)]
        for pipe, part in zip(pipes, parts, strict=True):
            pipe.send((settings, part, len(parts)))
        answers = [pipe.recv() for pipe in pipes]
        return answers[0]  # type: ignore[no-any-return]

    def close(self) -> None:
        """Let the processes end."""
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            pipe.send(None)
            process.join()


@contextmanager
def crew(*sizes: int) -> Iterator[Crew]:
    """Start a crew for these numbers of workers, and end it."""
    with tempfile.TemporaryDirectory() as folder:
        found = Crew(sizes, Path(folder) / "meeting")
        yield found
        found.close()


def _serve(pipe: Any, rank: int, sizes: tuple[int, ...], meeting: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    import torch.distributed as dist

    from contrarec.distributed import fit_block
    from contrarec.kernels.dispatch import set_threads

    set_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=max(sizes),
        timeout=_PATIENCE,
    )  # fmt: skip
    groups = {n: dist.new_group(list(range(n))) for n in sizes}
    while (task := pipe.recv()) is not None:
        settings, (data, block), n_workers = task
        result = fit_block(settings, data, block, group=groups[n_workers])
        pipe.send((result.outcome, result.metrics))
    dist.destroy_process_group()
