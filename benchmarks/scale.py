"""Time per training interaction and peak memory, while a log and its tables grow together.

Each size is measured in a process of its own, over steps of training after some that do not count.
The world grows in users and items as it grows in interactions, and popularity is Zipf's. Steps are
of a fixed size or a share of the log: what a step costs once (a propagation over the whole graph,
rows brought in from memory) is then shared by as many more interactions as there are.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl
import torch

import contrarec as cr
from benchmarks.record import ROOT, Row, ensure
from contrarec.data.dataset import Dataset
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.model import Model
from contrarec.settings import resolve_settings
from contrarec.training.loop import Hooks, fit

TIME, MEMORY = "scale: time per interaction", "scale: peak memory"
PER_USER, USERS_PER_ITEM = 20, 5
BATCHES = {"mf": (2048, 32_768, "1/100"), "lightgcn": (32_768, "1/30")}
"""Interactions a step: a number, or a share of the log."""
SIZES = {
    "mf": (1_000_000, 10_000_000, 100_000_000),
    "lightgcn": (1_000_000, 5_000_000, 20_000_000),
}
SHORT = {"mf": (100_000, 1_000_000), "lightgcn": (100_000, 400_000)}
DIM, N_NEG = 64, 64
EXPONENT = 0.9  # of popularity by rank; at 1 the most popular item would be in most histories
_USERS = 200_000  # histories drawn at a time


def rows(*, short: bool, threads: int) -> Iterator[Row]:
    """Yield two rows for every backbone, batch size and number of interactions."""
    sizes = SHORT if short else SIZES
    for backbone, numbers in sizes.items():
        for n in numbers:
            with tempfile.TemporaryDirectory() as folder:
                n_users, n_items = n // PER_USER, n // PER_USER // USERS_PER_ITEM
                world = Path(folder) / "items.npy"
                write_world(world, n_users, n_items)
                for batch in BATCHES[backbone]:
                    yield from _measured(backbone, world, n, batch, threads)


def _measured(backbone: str, world: Path, n: int, batch: int | str, threads: int) -> Iterator[Row]:
    size = batch if isinstance(batch, int) else int(n * Fraction(batch))
    said = f"{batch:,}" if isinstance(batch, int) else f"{batch} of the log"
    n_items = n // PER_USER // USERS_PER_ITEM
    command = [sys.executable, "-m", "benchmarks.scale", backbone, str(world)]
    command += [str(n_items), str(size), str(threads)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    row = json.loads(done.stdout)
    shape = (
        f"{row['interactions']:,} interactions: {backbone} infonce, "
        f"steps of {said} × {N_NEG}, dim {DIM}"
    )
    memory = {name: row.pop(name) for name in ("peak_mib", "expected_mib")}
    yield {"what": TIME, "shape": shape} | row
    yield {"what": MEMORY, "shape": shape, "interactions": row["interactions"]} | memory


def write_world(path: Path, n_users: int, n_items: int) -> None:
    """Write `[n_users, PER_USER]` int32, ascending in each row, block by block."""
    items = np.lib.format.open_memmap(path, "w+", np.int32, (n_users, PER_USER))
    rng = np.random.default_rng(0)
    shift = np.arange(PER_USER)
    for start in range(0, n_users, _USERS):
        block = items[start : start + _USERS]
        # inverse of the distribution function of x^-EXPONENT on [1, n_items - PER_USER + 1)
        end = float(n_items - PER_USER + 1) ** (1 - EXPONENT)
        rank = (1 + rng.random(block.shape) * (end - 1)) ** (1 / (1 - EXPONENT)) - 1
        ordered = np.sort(rank.astype(np.int64), axis=1)
        # an item that is there already gives way to the next one
        block[:] = np.maximum.accumulate(ordered, axis=1) + shift
    items.flush()


def child(backbone: str, world: Path, n_items: int, batch: int, threads: int) -> Row:
    """Train some steps in this process and say what they took."""
    cr.set_threads(threads)
    before = _status("VmRSS")
    items = np.load(world)
    n_users = len(items)
    train = Interactions(
        indptr=np.arange(n_users + 1, dtype=np.int64) * PER_USER,
        indices=items.reshape(-1),
        users=Vocabulary(pl.int_range(n_users, eager=True)),
        items=Vocabulary(pl.int_range(n_items, eager=True)),
    )
    settings = resolve_settings(
        backbone=backbone,
        loss="infonce",
        overrides={"batch_size": batch, "n_neg": N_NEG, "dim": DIM, "epochs": 1},
    )
    model = Model(settings, train, torch.device("cpu"))
    tables = 4 * (n_users + n_items) * DIM
    csr = train.indptr.nbytes + train.indices.nbytes
    graph = sum(t.nbytes for t in model.backbone.buffers())
    n_steps = max(4, min(60, 2_000_000 // batch if backbone == "mf" else 8))
    ends: list[float] = []

    def on_step(*_: object) -> None:
        ends.append(time.perf_counter())
        if len(ends) > n_steps:
            raise StopIteration

    data = Dataset(train=train, valid=None, tests={}, name="world")
    start = [table.detach().mean().item() for table in model.backbone.parameters()]
    with contextlib.suppress(StopIteration):
        fit(model.backbone, model.loss, data, settings.training, hooks=Hooks(on_step=on_step))
    end = [table.detach().mean().item() for table in model.backbone.parameters()]
    ensure(start != end and all(map(np.isfinite, end)), "the tables did not move")
    seconds = np.diff(ends) / batch
    return {
        "interactions": train.nnz,
        "seconds": statistics.median(seconds),
        "spread": float(seconds.max() - seconds.min()),
        "peak_mib": _status("VmHWM"),
        "expected_mib": before + (3 * tables + csr + graph) / 2**20,
    }


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {name} in /proc/self/status")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("backbone")
    parser.add_argument("world", type=Path)
    for name in ("n_items", "batch", "threads"):
        parser.add_argument(name, type=int)
    print(json.dumps(child(**vars(parser.parse_args()))))
