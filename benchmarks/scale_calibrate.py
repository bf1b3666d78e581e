"""Measure the rates that the cost model needs, on this machine, by small pieces of work.

    python -m benchmarks.scale_calibrate          # writes benchmarks/scale-calibration.json

No epoch is measured here: what `benchmarks.workers` measures is predicted from these rates alone.
One thread throughout; exchanges are those of two workers over the loopback address.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.record import ROOT, environment, times
from benchmarks.scale_model import ADAM_PASSES, FLOAT, Hardware
from benchmarks.worlds import histories
from contrarec.files import write_text
from contrarec.kernels.adam import adam_rows
from contrarec.kernels.dispatch import set_threads, usable_cores
from contrarec.kernels.draws import draw_batch, draw_block
from contrarec.kernels.propagate import bipartite_graph, propagate
from contrarec.kernels.scores import sampled_scores

PATH = ROOT / "benchmarks" / "scale-calibration.json"
DIM, N_NEG, N_ROWS = 64, 64, 8192
N_USERS, N_ITEMS, N_EDGES = 50_000, 20_000, 1_000_000
SHORT = 20  # times fewer of everything
TABLES = (1 << 20, 1 << 22, 1 << 24)  # bytes of what is added up


def calibrate(*, short: bool) -> dict[str, float]:
    """Return the rates of one thread, and of an exchange of two workers."""
    set_threads(1)
    smaller, repeats = (SHORT, 2) if short else (1, 7)
    log = histories(N_USERS // smaller, N_ITEMS // smaller, N_EDGES // smaller)
    rates = {
        "flops": _scores(N_ROWS // smaller, N_USERS // smaller, N_ITEMS // smaller, repeats),
        "spread_flops": _spread(*log, N_ITEMS // smaller, repeats),
        "draws": _draws(*log, N_ITEMS // smaller, N_ROWS // smaller, repeats),
        "hashes": _hashes(*log, N_ITEMS // smaller, N_ROWS, repeats),
        "memory_rate": _adam(N_EDGES // smaller, repeats),
    }
    sizes = N_ROWS // smaller, N_USERS // smaller, N_ITEMS // smaller, repeats
    rates["busy"] = _busy(sizes)
    return rates | _exchange(tuple(size // smaller for size in TABLES), repeats)


def _typical(function: Callable[[], object], repeats: int) -> float:
    function()
    return median(times(function, repeats))


def _scores(n_rows: int, n_users: int, n_items: int, repeats: int) -> float:
    """Scores, their loss, and the gradients of both tables: 6 operations a number of a pair."""
    rng = torch.Generator().manual_seed(0)
    tables = [
        (0.1 * torch.randn(n, DIM, generator=rng)).requires_grad_() for n in (n_users, n_items)
    ]
    users = torch.randint(n_users, (n_rows,), generator=rng)
    items = torch.randint(n_items, (n_rows, 1 + N_NEG), generator=rng)

    def step() -> None:
        scores = sampled_scores(*tables, users, items, cosine=True, sparse_grad=True) / 0.1
        (torch.logsumexp(scores, 1) - scores[:, 0]).mean().backward()
        for table in tables:
            table.grad = None

    return 6 * items.numel() * DIM / _typical(step, repeats)


def _busy(sizes: tuple[int, int, int, int]) -> float:
    """Return the share of the rate of scores that is left when all cores compute them."""
    context = multiprocessing.get_context("spawn")
    n = usable_cores()
    with context.Pool(n) as pool:
        pool.starmap(_alone, [sizes] * n)  # loads the kernels
        (alone,) = pool.starmap(_alone, [sizes])
        together = pool.starmap(_alone, [sizes] * n, chunksize=1)
    return sum(together) / n / alone


def _alone(*sizes: int) -> float:
    set_threads(1)
    return _scores(*sizes)


def _spread(indptr: np.ndarray, indices: np.ndarray, n_items: int, repeats: int) -> float:
    """A layer and its backward pass: 8 operations a number of an edge."""
    graph = bipartite_graph(indptr, indices, n_items)
    users = torch.randn(len(indptr) - 1, DIM).requires_grad_()
    items = torch.randn(n_items, DIM).requires_grad_()

    def step() -> None:
        out = propagate(graph, users, items, 1, layer_zero=False)
        torch.autograd.grad([part.sum() for part in out], [users, items])

    return 8 * len(indices) * DIM / _typical(step, repeats)


def _draws(
    indptr: np.ndarray, indices: np.ndarray, n_items: int, n_rows: int, repeats: int
) -> float:
    active = np.flatnonzero(np.diff(indptr))
    options: dict[str, Any] = {"n_items": n_items, "n_neg": N_NEG, "by_user": False, "key": 1}

    def step() -> None:
        draw_batch(indptr, indices, active, range(n_rows), **options)

    return n_rows * (1 + N_NEG) / _typical(step, repeats)


def _hashes(
    indptr: np.ndarray, indices: np.ndarray, n_items: int, n_rows: int, repeats: int
) -> float:
    """Rows looked at by a worker that has none of them."""
    active = np.flatnonzero(np.diff(indptr))
    own = indptr[:2] - indptr[0], indices[: indptr[1]], active[:1]
    options: dict[str, Any] = {"n_items": n_items, "n_neg": N_NEG, "by_user": False, "key": 1}
    places = {"first_row": 0, "nnz": len(indices), "first_active": 0, "n_active": len(active)}

    def step() -> None:
        draw_block(*own, range(n_rows), **places, **options)

    return n_rows / _typical(step, repeats)


def _adam(n_rows: int, repeats: int) -> float:
    """Lazy Adam on every eighth row of a table larger than any cache."""
    tables = [torch.rand(n_rows, DIM) for _ in range(3)]
    rows = torch.arange(0, n_rows, 8)
    grads = torch.rand(len(rows), DIM)
    rates = {"betas": (0.9, 0.999), "rate": 1e-3, "root_scale": 1.0, "eps": 1e-8}

    def step() -> None:
        adam_rows(*tables, rows, grads, **rates)  # type: ignore[arg-type]

    return len(rows) * DIM * FLOAT * ADAM_PASSES / _typical(step, repeats)


def _exchange(sizes: tuple[int, ...], repeats: int) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        answers = context.SimpleQueue()
        meeting = str(Path(folder) / "meeting")
        processes = [
            context.Process(target=_exchanges, args=(rank, meeting, sizes, repeats, answers))
            for rank in range(2)
        ]
        for process in processes:
            process.start()
        latency, rates = answers.get()
        for process in processes:
            process.join()
    return {"latency": latency, "network": median(rates)}


def _exchanges(rank: int, meeting: str, sizes: tuple[int, ...], repeats: int, answers: Any) -> None:
    """Add up tables of several sizes with another process; the first of both says what it took."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    import torch.distributed as dist

    from contrarec.distributed.exchange import Exchange

    set_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=2,
        timeout=timedelta(seconds=120),
    )  # fmt: skip
    exchange = Exchange()
    latency = _typical(exchange.wait, 20 * repeats)
    rates = []
    for size in sizes:
        rows = size // (DIM * FLOAT)
        table = torch.rand(rows, DIM)
        index = torch.arange(rows)
        for add_up in (exchange.add_up_table, exchange.add_up_rows):
            before = exchange.n_bytes
            add_up(index, table, rows)
            received = exchange.n_bytes - before
            rates.append(received / _typical(partial(add_up, index, table, rows), repeats))
    if rank == 0:
        answers.put((latency, rates))
    dist.destroy_process_group()


def core(path: Path = PATH) -> Hardware:
    """Return a thread of the machine that was calibrated."""
    known = json.loads(path.read_text(encoding="utf-8"))
    about = known["about"]
    return Hardware(
        name="one thread here",
        source=f"measured {about['date'][:10]} at {about['commit']} on {about['machine']}, "
        f"{about['cpu']}; load {about['load']}",
        memory=known["memory"],
        together=known["cores"],
        **known["rates"] | {"busy": min(1.0, known["rates"]["busy"])},
    )


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="smaller, nothing recorded")
    options = parser.parse_args(arguments)
    kept = ("date", "commit", "machine", "cpu", "versions")
    about = {name: value for name, value in environment(1).items() if name in kept}
    load = round(os.getloadavg()[0], 2)
    rates = calibrate(short=options.short)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = {
        "about": about | {"load": load},
        "cores": usable_cores(),
        "memory": memory,
        "rates": rates,
    }
    print(json.dumps(found, indent=2))
    if not options.short:
        write_text(PATH, json.dumps(found, indent=2) + "\n")
    return rates


if __name__ == "__main__":
    main()
