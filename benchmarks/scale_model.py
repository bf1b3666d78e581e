"""A cost model of a step by several workers: what it computes, keeps in memory and sends.

Counts follow from the sizes; seconds are counts over the rates of a machine. The rates of this
machine are measured by `benchmarks.scale_calibrate`; those of named machines are published figures,
with what is taken for granted beside them. `benchmarks.scale_page` sets predictions beside
measurements and makes the tables of `docs/scale.md`.
"""

import math
from dataclasses import dataclass
from typing import Literal

from contrarec.distributed.exchange import rows_pay
from contrarec.optimizers import LAZY_ROWS

Items = Literal["copies", "sharded"]
"""Whether every worker has a copy of the item table, or its share of the rows. The latter is not
built: what it would take is an all-to-all of the rows of a step, and one of their gradients."""

FLOAT, INDEX = 4, 8  # bytes
ADAM_PASSES = 7  # over a row: its gradient, and the table and two moments read and written
TABLES = 4  # the table, its two moments, and the weights of the best epoch
PROCESS = 400 * 2**20  # bytes of a worker with nothing in it: torch, Ray


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is trained."""

    interactions: float
    users: float
    items: float
    dim: int = 64
    batch_size: int = 2048
    n_neg: int = 64
    layers: int = 0
    """Of LightGCN; 0 is MF."""


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """Rates of one worker, be it a core, a machine or a GPU."""

    name: str
    source: str
    """Where the figures are from, and what was taken for granted."""
    flops: float
    """Of scores and their gradients, a second."""
    spread_flops: float
    """Of a product with the graph, a second."""
    draws: float
    """Negatives drawn a second."""
    hashes: float
    """Rows of a batch looked at a second, to find one's own."""
    memory_rate: float
    """Bytes a second of passes over rows of tables."""
    memory: float
    """Bytes."""
    network: float
    """Bytes a second received in an exchange of rows or tables, with all that goes with it."""
    latency: float
    """Seconds of an exchange of nothing."""
    together: int = 10**9
    """Workers that there are cores for: more of them take turns."""
    busy: float = 1.0
    """Share of these rates that each of so many workers reaches when all of them work."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one worker: seconds of a step, bytes of a step and of memory."""

    steps: int
    """Of an epoch."""
    scores: float
    propagation: float
    drawing: float
    adam: float
    exchange: float
    received: float
    """Bytes."""
    memory: float
    """Bytes."""

    @property
    def step(self) -> float:
        """Seconds of a step."""
        return self.scores + self.propagation + self.drawing + self.adam + self.exchange

    @property
    def epoch(self) -> float:
        """Seconds of an epoch."""
        return self.steps * self.step

    @property
    def communicating(self) -> float:
        """Share of the time spent in exchanges."""
        return self.exchange / self.step


def cost(load: Load, machine: Hardware, workers: int, items: Items = "copies") -> Cost:
    """Return what a step takes of each worker.

    Args:
        load: what is trained.
        machine: rates of a worker.
        workers: how many.
        items: where item rows are.
    """
    own = load.batch_size / workers
    pairs = own * (1 + load.n_neg)
    slower = max(1.0, workers / machine.together)
    if workers >= machine.together > 1:
        slower /= machine.busy
    lazy = load.layers == 0 and load.users + load.items >= LAZY_ROWS
    own_users = load.users / workers
    received, n_calls = _exchanged(load, workers, items, lazy=lazy)
    moved = own_users + load.items / (workers if items == "sharded" else 1)
    if lazy:
        touched = _touched(load.items, load.batch_size * (1 + load.n_neg))
        moved = _touched(own_users, own) + touched / (workers if items == "sharded" else 1)
    spread = 8 * load.layers * load.interactions / workers * load.dim
    drawn = pairs / machine.draws + (load.batch_size / machine.hashes if workers > 1 else 0.0)
    return Cost(
        steps=math.ceil(load.interactions / load.batch_size),
        scores=slower * 6 * pairs * load.dim / machine.flops,
        propagation=slower * spread / machine.spread_flops,
        drawing=slower * drawn,
        adam=slower * moved * load.dim * FLOAT * ADAM_PASSES / machine.memory_rate,
        exchange=n_calls * machine.latency * slower + slower * received / machine.network,
        received=received,
        memory=_memory(load, workers, items),
    )


def _exchanged(load: Load, workers: int, items: Items, *, lazy: bool) -> tuple[float, int]:
    """Return the bytes that a worker receives in a step, and the number of exchanges."""
    if workers == 1:
        return 0.0, 0
    row = load.dim * FLOAT
    pairs = load.batch_size * (1 + load.n_neg)
    touched = _touched(load.items, pairs / workers)
    if items == "sharded":  # numbers of rows, the rows, their gradients; all-to-all, by MF alone
        return touched * (2 * row + INDEX) * (workers - 1) / workers, 4
    if load.layers:
        return (2 * load.layers + 1) * 2 * load.items * row, 2 * load.layers + 2
    by_rows = rows_pay(
        n_rows=int(load.items), dim=load.dim, n_pairs=pairs, n_workers=workers, n_bytes=FLOAT
    )
    if by_rows:
        return workers * touched * (row + INDEX), 4
    return 2 * load.items * (row + (FLOAT if lazy else 0)), 2


def _touched(rows: float, pairs: float) -> float:
    """Return how many rows of a table so many pairs fall on, if they fall evenly."""
    return -rows * math.expm1(-pairs / max(rows, 1.0))


def _memory(load: Load, workers: int, items: Items) -> float:
    """Return the bytes that a worker needs."""
    rows = load.users / workers + load.items / (workers if items == "sharded" else 1)
    edges = load.interactions / workers
    log = FLOAT * edges + INDEX * load.users / workers
    graph = 16 * edges if load.layers else 0
    pairs = load.batch_size / workers * (1 + load.n_neg)
    batch = 4 * INDEX * pairs
    gradient = FLOAT * load.dim * (_touched(load.items, pairs) + load.batch_size / workers)
    return PROCESS + TABLES * FLOAT * load.dim * rows + log + graph + batch + gradient


SHARE = 0.5
"""Of published rates of memory and network that is reached: taken for granted."""


def cpu_machine(core: Hardware) -> Hardware:
    """Return a machine of 48 cores like one that was measured.

    Args:
        core: rates of a core.
    """
    cores = 48
    return Hardware(
        name="c7i.24xlarge",
        source=(
            "96 vCPUs, 192 GiB, 37.5 Gbit/s (AWS, instance types, compute optimized); a core is "
            f"taken to do what one of the calibration does, memory {SHARE:.0%} of 8 channels of "
            f"DDR5-4800 (307 GB/s), the network {SHARE:.0%} of what is published, 50 µs latency"
        ),
        flops=core.flops * cores,
        spread_flops=core.spread_flops * cores,
        draws=core.draws * cores,
        hashes=core.hashes * cores,
        memory_rate=min(core.memory_rate * cores, SHARE * 307e9),
        memory=192 * 2**30,
        network=SHARE * 37.5e9 / 8,
        latency=50e-6,
    )


def gpu(workers_of_a_machine: int = 8) -> Hardware:
    """Return an H100, one of 8 in a machine.

    Args:
        workers_of_a_machine: that share its network.
    """
    rate = SHARE * 3.35e12
    return Hardware(
        name="H100",
        source=(
            "80 GB, 3.35 TB/s, 67 TFLOPS (NVIDIA, H100 SXM); 3,200 Gbit/s for 8 of them (AWS, "
            f"p5.48xlarge); everything is taken to be bound by memory, at {SHARE:.0%} of its rate, "
            "with 12 bytes for each number of a pair; NCCL has not been run"
        ),
        flops=min(6 / 12 * rate, 67e12),
        spread_flops=8 / 16 * rate,
        draws=1e10,
        hashes=1e10,
        memory_rate=rate,
        memory=80e9,
        network=SHARE * 3200e9 / 8 / workers_of_a_machine,
        latency=30e-6,
    )
