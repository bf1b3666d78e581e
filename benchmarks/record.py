"""What a benchmark's row is: how it is timed, what stands beside it, and the file that keeps it."""

import csv
import datetime
import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from contrarec.files import replacing

Row = dict[str, Any]

ROOT = Path(__file__).resolve().parents[1]

ABOUT = ("date", "commit", "machine", "cpu", "threads", "versions", "card")
TEXTS = ("what", "shape", "other")
NUMBERS = (
    "seconds",  # median
    "spread",  # of the seconds, largest minus smallest
    "other_seconds",  # median of what it is compared with
    "ratio",  # median of the paired ratios: how many times faster than the other
    "ratio_spread",
    "rate",  # a second
    "peak_mib",  # resident memory of the process while the benchmark ran
    "expected_mib",  # parameters, optimizer state and interactions
    "interactions",
    "epochs",
    "quality",  # NDCG@20 that was reached
)
COLUMNS = (*ABOUT, *TEXTS, *NUMBERS)


def ensure(correct: bool, what: str) -> None:
    """Stop before a wrong result is timed."""
    if not correct:
        raise RuntimeError(f"wrong result, nothing was timed: {what}.")


def times(function: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each of `repeats` calls."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return seconds


def single(function: Callable[[], object], repeats: int) -> Row:
    """Time one function after a call that does not count."""
    function()
    return summary(times(function, repeats))


def summary(seconds: list[float]) -> Row:
    """Median and spread."""
    return {"seconds": statistics.median(seconds), "spread": max(seconds) - min(seconds)}


def pair(
    ours: Callable[[], object], theirs: Callable[[], object], repeats: int, *, calls: int = 1
) -> Row:
    """Time two functions alternately, after a call of each that does not count.

    Args:
        ours: what is measured.
        theirs: what it is compared with.
        repeats: pairs; the ratio is the median of each pair's, so that a slow spell of the machine
            hits both sides.
        calls: of each in a row, of which the median counts: with three, the first call after the
            other function has filled the caches drops out.
    """
    ours(), theirs()
    a, b = [], []
    for _ in range(repeats):
        a.append(statistics.median(times(ours, calls)))
        b.append(statistics.median(times(theirs, calls)))
    ratios = [y / x for x, y in zip(a, b, strict=True)]
    return summary(a) | {
        "other_seconds": statistics.median(b),
        "ratio": statistics.median(ratios),
        "ratio_spread": max(ratios) - min(ratios),
    }


def with_peak(rows: Iterable[Row]) -> Iterator[Row]:
    """Add to each row the peak of resident memory while it was made, where Linux tells it.

    A row that brings its own `peak_mib` keeps it.
    """
    iterator = iter(rows)
    while True:
        _reset_peak()
        row = next(iterator, None)
        if row is None:
            return
        yield {"peak_mib": _peak_mib()} | row


def _reset_peak() -> None:
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_mib() -> float | None:
    kib = _field("/proc/self/status", "VmHWM")
    return None if kib is None else int(kib.split()[0]) / 1024


def environment(threads: int) -> Row:
    """Describe the state of the code and the machine; a row may say otherwise."""
    memory = _field("/proc/meminfo", "MemTotal")
    gib = f", {round(int(memory.split()[0]) / 2**20)} GiB" if memory else ""
    versions = [f"{name} {version(name)}" for name in ("torch", "numba", "numpy")]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{gib}",
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        "threads": threads,
        "versions": ", ".join([f"Python {platform.python_version()}", *versions]),
        "card": "",
    }


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _field(path: str, name: str) -> str | None:
    """Read the first `name: value` line of a file of /proc; None where there is none."""
    if not Path(path).exists():
        return None
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def append(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to the file, which is replaced as a whole, so that it never holds half a row.

    Raises:
        ValueError: a row does not fit the columns, or the file has others. It is left as it was.
    """
    lines = list(rows)
    for row in lines:
        _check(row)
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if before:
        header = tuple(next(csv.reader(before.splitlines())))
        if header != COLUMNS:
            odd = sorted(set(header) ^ set(COLUMNS)) or ["their order"]
            raise ValueError(f"{path}: columns differ from the record's: {', '.join(odd)}.")
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        file.write(before)
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if not before:
            writer.writeheader()
        writer.writerows(lines)


def _check(row: Row) -> None:
    about = f"row {row.get('what')!r}, {row.get('shape')!r}"
    for name in row:
        if name not in COLUMNS:
            raise ValueError(f"{about}: no column is called {name!r}.")
    for name in ("date", "commit", "machine", "cpu", "threads", "versions", "what", "shape"):
        if not row.get(name):
            raise ValueError(f"{about}: `{name}` must be given.")
    if all(row.get(name) is None for name in NUMBERS):
        raise ValueError(f"{about}: must have at least one measured number.")
    for name in NUMBERS:
        value = row.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not _fits(name, value):
            raise ValueError(f"{about}: `{name}` must be a positive number, got {value!r}.")


def _fits(name: str, value: float) -> bool:
    may_be_zero = name in ("spread", "ratio_spread", "quality")
    return math.isfinite(value) and (value > 0 or (may_be_zero and value == 0))
