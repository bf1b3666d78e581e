"""Seconds an epoch, exchange and memory of 1, 2 and 4 workers, beside the plain command.

The log is synthetic: popularity is Zipf's, and it lies in Parquet parts. Every run is a run of
`contrarec train`, of one thread a worker; the second of two epochs is timed, since the first one
loads the kernels. There is nothing to be evaluated. Memory is the peak of each process.

    python -m benchmarks.workers                 # appends to benchmarks/workers.csv
    python -m benchmarks.workers --short         # prints only
"""

import argparse
import csv
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.record import ROOT, environment
from contrarec.files import write_text

RECORD = ROOT / "benchmarks" / "workers.csv"
EXPONENT = 0.9  # of popularity by rank
N_PARTS = 8
SETTINGS = {"dim": 64, "epochs": 2, "eval_every": 2, "checkpoint_seconds": 1e9}
FULL = {
    "interactions": 10_000_000, "users": 200_000, "items": 20_000,
    "batch_size": 65_536, "n_neg": 16,
}  # fmt: skip
SHORT = {
    "interactions": 20_000, "users": 1_000, "items": 500, "batch_size": 2_048, "n_neg": 16,
}  # fmt: skip
ABOUT = ("date", "commit", "machine", "cpu", "threads", "versions", "load")
SHAPE = ("backbone", "loss", "interactions", "users", "items", "dim", "batch_size", "n_neg")
MEASURED = (
    "workers",  # 0: the plain command
    "seconds",  # of an epoch
    "rows_per_second",  # of all workers together
    "communicating",  # share of an epoch's time, mean of the workers
    "mib_received",  # by a worker in an epoch
    "peak_mib",  # of the largest worker
    "most_rows",  # that a process had in memory while the parts were read
)
COLUMNS = (*ABOUT, *SHAPE, *MEASURED)

Row = dict[str, Any]


def write_log(folder: Path, n: int, n_users: int, n_items: int) -> None:
    """Write `train` as Parquet parts of about equal size, n rows in all, each pair once."""
    rng = np.random.default_rng(0)
    chances = 1 / np.arange(1, n_items + 1) ** EXPONENT
    ends = np.cumsum(chances / chances.sum())
    (folder / "train").mkdir(parents=True)
    each = n // N_PARTS
    for number in range(N_PARTS):
        keys = np.empty(0, np.int64)
        while len(keys) < each:  # users of a part are its own, so that no other has the pair
            users = rng.integers(0, n_users // N_PARTS, each) * N_PARTS + number
            items = np.minimum(np.searchsorted(ends, rng.random(each)), n_items - 1)
            keys = np.unique(np.concatenate([keys, users * n_items + items]))
        keys = rng.permutation(keys)[:each]
        frame = pl.DataFrame({"user_id": keys // n_items, "item_id": keys % n_items})
        frame.write_parquet(folder / "train" / f"{number}.parquet")


def run(log: Path, out: Path, shape: Row, workers: int, address: str | None) -> Row:
    """Train with the command line, and say what it took."""
    settings = SETTINGS | {name: shape[name] for name in ("batch_size", "n_neg")}
    command = [sys.executable, "-c", "import sys; from contrarec.cli import main; sys.exit(main())"]
    command += ["train", str(log), "--backbone", shape["backbone"], "--loss", shape["loss"]]
    command += ["--threads", "1", "--device", "cpu", "--out", str(out), "--json"]
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    if workers:
        command += ["--workers", str(workers)]
        command += ["--ray-address", address] if address else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        peaks: dict[int, float] = {}
        done = threading.Event()
        watch = threading.Thread(
            target=_watch, args=(done, peaks, out, workers, process.pid), daemon=True
        )
        watch.start()
        printed, _ = process.communicate()
        done.set()
        watch.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[3:])}: exit status {process.returncode}")
    result = json.loads(printed)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    row: Row = {
        "workers": workers,
        "seconds": lines[1]["seconds"] - lines[0]["seconds"],
        "peak_mib": max(peaks.values()),
        "most_rows": result.get("reading", {}).get("most_rows"),
    }
    row["rows_per_second"] = shape["interactions"] / row["seconds"]
    if workers:
        found = lines[1]["workers"]
        row["communicating"] = sum(found["communicating"]) / workers
        row["mib_received"] = found["bytes"][0] / 2**20
    return row


def _watch(
    done: threading.Event, peaks: dict[int, float], out: Path, workers: int, pid: int
) -> None:
    """Note the peaks of the processes that train, as long as they run."""
    while not done.wait(0.2):
        pids = [pid]
        if workers:
            files = out.glob("state/worker-*.json")
            pids = [json.loads(file.read_text())["pid"] for file in files]
        for number in pids:
            peaks[number] = max(peaks.get(number, 0.0), _peak_mib(number))


def _peak_mib(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    found = [line.split()[1] for line in text.splitlines() if line.startswith("VmHWM:")]
    return int(found[0]) / 1024 if found else 0.0


def rows(shape: Row, workers: tuple[int, ...], folder: Path, log: Path) -> Iterator[Row]:
    """Yield a row for the plain command and for each number of workers.

    Args:
        shape: what is trained.
        workers: numbers of them.
        folder: where runs go.
        log: where the log is, or is written.
    """
    if not log.is_dir():
        write_log(log, shape["interactions"], shape["users"], shape["items"])
    with cluster(max(workers)) as address:
        for n in dict.fromkeys((0, *workers)):
            load = os.getloadavg()[0]
            yield (
                {"load": round(load, 2)} | shape | run(log, folder / f"run-{n}", shape, n, address)
            )


@contextmanager
def cluster(n: int) -> Iterator[str]:
    """Start a Ray cluster on this machine for n workers, though it has fewer cores; its address."""
    from contrarec.distributed.launch import load_ray

    ray = load_ray(local=True)
    if ray.is_initialized():
        yield str(ray.get_runtime_context().gcs_address)
        return
    context = ray.init(
        address="local", num_cpus=max(n, os.cpu_count() or 1), include_dashboard=False,
        log_to_driver=False, logging_level="ERROR", _node_ip_address="127.0.0.1",
    )  # fmt: skip
    try:
        yield str(context.address_info["gcs_address"])
    finally:
        ray.shutdown()


def table(found: list[Row]) -> str:
    """Lay the rows out beside the plain command and one worker."""
    plain = next((row["seconds"] for row in found if row["workers"] == 0), None)
    one = next((row["seconds"] for row in found if row["workers"] == 1), None)
    lines = ["workers  s/epoch  rows/s   × plain  × one  communicating  peak MiB"]
    for row in found:
        ratios = [f"{base / row['seconds']:.2f}" if base else "" for base in (plain, one)]
        share = f"{row['communicating']:.0%}" if row.get("communicating") is not None else ""
        lines.append(
            f"{row['workers'] or 'plain':>7}  {row['seconds']:7.2f}  {row['rows_per_second']:7.0f}"
            f"  {ratios[0]:>7}  {ratios[1]:>5}  {share:>13}  {row['peak_mib']:8.0f}"
        )
    return "\n".join(lines)


def append(path: Path, found: list[Row]) -> None:
    """Add rows to the record."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if not before:
        writer.writeheader()
    writer.writerows(found)
    write_text(path, before + out.getvalue())


def main(arguments: list[str] | None = None) -> list[Row]:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="a small log, nothing recorded")
    parser.add_argument("--out", type=Path, help="CSV to append to")
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--log", type=Path, help="the log, if it was written before")
    for name in FULL:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int)
    options = parser.parse_args(arguments)
    sizes = SHORT if options.short else FULL
    sizes = {name: getattr(options, name) or value for name, value in sizes.items()}
    shape = {
        "backbone": "mf",
        "loss": "infonce",
        "dim": SETTINGS["dim"],
    }
    out = options.out or (None if options.short else RECORD)
    about = {name: value for name, value in environment(1).items() if name in ABOUT}
    found = []
    with tempfile.TemporaryDirectory() as folder:
        counts = tuple(map(int, options.workers.split(",")))
        for row in rows(shape | sizes, counts, Path(folder), options.log or Path(folder) / "log"):
            found.append(about | row)
            if out:
                append(out, found[-1:])  # at once: what comes after it may fail
            print(json.dumps(row), file=sys.stderr, flush=True)
    print(table(found))
    return found


if __name__ == "__main__":
    main()
