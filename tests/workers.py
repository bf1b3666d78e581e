"""Four processes on the loopback address that tests have functions run in, and what they train."""

import multiprocessing
import os
import traceback
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from contrarec import Dataset
from contrarec.settings import Settings, resolve_settings

SIZES = (1, 2, 4)
PATIENCE = 180.0
"""Seconds after which a test gives up on its workers, on a machine however busy."""


SETTINGS = {
    "dim": 8, "batch_size": 48, "n_neg": 4, "lr": 0.01, "l2": 0.01, "eval_every": 5,
    "epochs": 10, "patience": 100, "ks": (5, 10), "monitor": "recall@10", "checkpoint_seconds": 1e6,
}  # fmt: skip
ADVERSARY = {"adv_interval": 3, "adv_lr": 0.01, "adv_dim": 8, "adv_l2": 0.01}


@cache
def tastes() -> Dataset:
    """40 users with 2 to 12 items of their taste each, and some that only a test set knows."""
    rng = np.random.default_rng(0)
    rows: dict[str, list[Any]] = {part: [] for part in "tvo"}
    for user in range(40):
        taste = np.arange(user % 2, 30, 2)
        items = rng.permutation(taste)[: 2 + rng.integers(10)]
        rows["t" if user % 9 else "o"] += [(user, item) for item in items[1:]]
        rows["v" if user % 3 else "o"].append((user, items[0]))
    train, valid, other = (
        pl.DataFrame(part, schema=["user", "item"], orient="row") for part in rows.values()
    )
    return Dataset.from_parts(
        train=train, valid=valid, tests={"other": other}, user="user", item="item", name="tastes"
    )


def settings_of(backbone: str, loss: str, **more: Any) -> Settings:
    extra = ADVERSARY if loss.startswith("adv") and "closed" not in loss else {}
    overrides = SETTINGS | extra | more
    return resolve_settings(backbone=backbone, loss=loss, overrides=overrides, seed=3)


class Crew:
    """Processes that keep torch and a process group for each of some sizes."""

    def __init__(
        self, folder: Path, sizes: tuple[int, ...] = SIZES, patience: float = PATIENCE
    ) -> None:
        self._patience = patience
        context = multiprocessing.get_context("spawn")
        self._pipes, self._processes = [], []
        for rank in range(max(sizes)):
            here, there = context.Pipe()
            process = context.Process(
                target=_serve,
                args=(there, rank, sizes, str(folder / "meeting"), patience),
                daemon=True,
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
            if not pipe.poll(self._patience):
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


def _serve(pipe: Any, rank: int, sizes: tuple[int, ...], meeting: str, patience: float) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    import torch.distributed as dist

    from contrarec.kernels.dispatch import set_threads

    set_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=max(sizes),
        timeout=timedelta(seconds=patience),
    )  # fmt: skip
    groups = {n: dist.new_group(list(range(n))) for n in sizes}
    while (task := pipe.recv()) is not None:
        function, n_workers, arguments, named = task
        try:
            pipe.send((True, function(groups[n_workers], *arguments, **named)))
        except Exception:
            pipe.send((False, traceback.format_exc()))
    dist.destroy_process_group()
