"""Four processes on the loopback address that tests have functions run in, started once."""

import multiprocessing
import os
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

SIZES = (1, 2, 4)
PATIENCE = 180.0
"""Seconds after which a test gives up on its workers, on a machine however busy."""


class Crew:
    """Processes that keep torch and a process group for each of `SIZES`."""

    def __init__(self, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes, self._processes = [], []
        for rank in range(max(SIZES)):
            here, there = context.Pipe()
            process = context.Process(
                target=_serve, args=(there, rank, str(folder / "meeting")), daemon=True
            )
            process.start()
            self._pipes.append(here)
            self._processes.append(process)

    def run(self, function: Any, n_workers: int, *arguments: Any, **named: Any) -> list[Any]:
        """Call `function(group, *arguments, **named)` in the first processes; their answers."""
        for pipe in self._pipes[:n_workers]:
            pipe.send((function, n_workers, arguments, named))
        answers = []
        for rank, pipe in enumerate(self._pipes[:n_workers]):
            if not pipe.poll(PATIENCE):
                raise TimeoutError(f"worker {rank} of {n_workers} says nothing")
            answers.append(pipe.recv())
        for done, answer in answers:
            if not done:
                raise AssertionError(answer)
        return [answer for _, answer in answers]

    def close(self) -> None:
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            pipe.send(None)
            process.join(1)
            if process.is_alive():
                process.kill()


def train_one(group: Any, settings: Any, parts: Any, **options: Any) -> tuple[Any, ...]:
    """Train the block of this process's rank."""
    import torch.distributed as dist

    from contrarec.distributed import fit_block

    data, block = parts[dist.get_rank(group)]
    result = fit_block(settings, data, block, group=group, **options)
    return result.weights, result.metrics, result.outcome


def _serve(pipe: Any, rank: int, meeting: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    import torch.distributed as dist

    from contrarec.kernels.dispatch import set_threads

    set_threads(1)
    size = max(SIZES)
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=size,
        timeout=timedelta(seconds=PATIENCE),
    )  # fmt: skip
    groups = {n: dist.new_group(list(range(n))) for n in SIZES}
    while (task := pipe.recv()) is not None:
        function, n_workers, arguments, named = task
        try:
            pipe.send((True, function(groups[n_workers], *arguments, **named)))
        except Exception:
            pipe.send((False, traceback.format_exc()))
    dist.destroy_process_group()
