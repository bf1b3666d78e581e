"""Reading: a Parquet log with string ids to compressed sparse rows, rows a second and peak memory.

The log has Zipf popularity and is written a block at a time; writing it is not timed. Each reading
takes place in a process of its own, is checked against the file, and reports its peak memory.

    python -m benchmarks.reading 1e6 1e7
    python -m benchmarks.reading 1e8        # 1.3 GB in the temporary folder while it runs
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.record import ROOT, Row, ensure, summary
from contrarec.data.interactions import Interactions

_BLOCK = 1 << 20  # rows of a row group


def rows(
    *, short: bool, n_rows: int | None = None, n_users: int = 5_000_000, n_items: int = 1_000_000
) -> Iterator[Row]:
    """Time `Dataset.from_file`: median, spread, rows a second, peak memory.

    Args:
        short: a short log, and fewer readings.
        n_rows: interactions, repeated ones included; 1,000,000 in the short form, else 10,000,000.
        n_users: users there are; fewer will occur in a short log.
        n_items: likewise.
    """
    n_rows = n_rows or (10**6 if short else 10**7)
    with tempfile.TemporaryDirectory() as folder:
        path, warm_up = Path(folder) / "log.parquet", Path(folder) / "warm_up.parquet"
        write_log(warm_up, 2 * _BLOCK, 1000, 1000)
        _read_in_child(warm_up)  # compiles
        write_log(path, n_rows, n_users, n_items)
        results = [_read_in_child(path) for _ in range(1 if short or n_rows > 10**7 else 3)]
    timed = summary([result["seconds"] for result in results])
    last = results[-1]
    yield {
        "what": "reading: Parquet with string ids",
        "shape": f"{n_rows:,} rows, {last['users']:,} users × {last['items']:,} items, "
        f"{last['start_mib']:.0f} MiB before",
        "interactions": last["pairs"],
        "rate": n_rows / timed["seconds"],
        "peak_mib": max(result["peak_mib"] for result in results),
        "expected_mib": last["kept_mib"],
    } | timed


def write_log(path: Path, n_rows: int, n_users: int, n_items: int) -> None:
    """Write a log: items of rank r in proportion to 1/r, users likewise to 1/∛r, ids shuffled."""
    rng = np.random.default_rng(0)
    users, items = _ids("user", n_users, rng), _ids("item", n_items, rng)
    schema = pa.schema([("user_id", pa.string()), ("item_id", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, n_rows, _BLOCK):
            n = min(_BLOCK, n_rows - start)
            user = (n_users * rng.random(n) ** 1.5).astype(np.int64)
            item = ((n_items + 1) ** rng.random(n)).astype(np.int64) - 1
            block = {
                "user_id": users.gather(user.clip(0, n_users - 1)),
                "item_id": items.gather(item.clip(0, n_items - 1)),
            }
            writer.write_table(pl.DataFrame(block).to_arrow().cast(schema))


def _ids(kind: str, n: int, rng: np.random.Generator) -> pl.Series:
    number = pl.int_range(n, eager=True).cast(pl.String).str.zfill(11)
    return (f"{kind}-" + number).gather(rng.permutation(n))


def _read_in_child(path: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.reading", "--read", str(path)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def _read(path: Path) -> dict[str, float]:
    import numba  # noqa: F401  # what every training needs is not part of reading
    import torch  # noqa: F401

    import contrarec as cr

    start_mib = _peak_mib()
    start = time.perf_counter()
    log = cr.Dataset.from_file(path).train
    seconds = time.perf_counter() - start
    peak_mib = _peak_mib()
    _check(log, path)
    kept = log.indptr.nbytes + log.indices.nbytes
    kept += sum(ids.estimated_size() for ids in (log.users.ids, log.items.ids))
    return {
        "seconds": seconds,
        "peak_mib": peak_mib,
        "start_mib": start_mib,
        "kept_mib": kept / 2**20,
        "pairs": log.nnz,
        "users": log.n_users,
        "items": log.n_items,
    }


def _check(log: Interactions, path: Path) -> None:
    """Compare sizes, and the items of the first, a middle and the last user, with the file."""
    scan = pl.scan_parquet(path)
    height = scan.select(pl.len()).collect().item()
    ensure(height == log.nnz + log.n_duplicates, "rows were lost, or counted twice")
    for u in (0, log.n_users // 2, log.n_users - 1):
        of_user = scan.filter(pl.col("user_id") == log.users.ids[u]).select("item_id")
        want = of_user.collect()["item_id"].unique().sort().to_list()
        got = log.items.take(log.indices[log.indptr[u] : log.indptr[u + 1]]).to_list()
        ensure(got == want, f"user {log.users.ids[u]} has other items in the file")


def _peak_mib() -> float:
    # getrusage would count what the parent had in memory when it started this process
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    if sys.argv[1] == "--read":
        print(json.dumps(_read(Path(sys.argv[2]))))
    else:
        for size in sys.argv[1:]:
            for row in rows(short=False, n_rows=int(float(size))):
                print(row, flush=True)
