"""Measure the hot paths, each checked for correctness before it is timed.

Every figure that compares is a ratio of two things timed alternately in this process; machines are
shared and noisy, so absolute times are only a guide. Rows are appended to `benchmarks/results.csv`,
from which `docs/make_performance.py` makes the page; those of the short form are only printed,
unless `--out` says where they go.

    python -m benchmarks.run --short            # a few minutes, what `make bench` runs
    python -m benchmarks.run                    # everything, for the record
    python -m benchmarks.run kernels sampler    # some of it
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import contrarec as cr
from benchmarks import (
    epoch,
    evaluation,
    gpu,
    kernels,
    profile,
    propagation,
    quality,
    reading,
    sampler,
    scale,
    serving,
    startup,
    threads,
)
from benchmarks.record import ROOT, Row, append, environment, with_peak

Options = argparse.Namespace

BENCHMARKS: dict[str, Callable[[Options], Iterator[Row]]] = {
    "kernels": lambda o: kernels.rows(short=o.short),
    "sampler": lambda o: sampler.rows(short=o.short, threads=o.threads),
    "propagation": lambda o: propagation.rows(o.data, short=o.short),
    "evaluation": lambda o: evaluation.rows(o.data, short=o.short),
    "threads": lambda o: threads.rows(short=o.short, threads=o.threads),
    "reading": lambda o: reading.rows(short=o.short),
    "startup": lambda o: startup.rows(short=o.short),
    "serving": lambda o: serving.rows(short=o.short, threads=o.threads),
    "profile": lambda o: profile.rows(o.data, short=o.short),
    "epoch": lambda o: epoch.rows(o.data, short=o.short),
    "quality": lambda o: quality.rows(o.data, short=o.short),
    "scale": lambda o: scale.rows(short=o.short, threads=o.threads),
    "gpu": lambda o: gpu.rows(),  # noqa: ARG005 - every benchmark is called alike
}
ON_DATA = ("epoch", "quality")
"""Those that are nothing without real data."""


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmarks that were asked for, append their rows and print them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHMARKS)}; or all")
    parser.add_argument("--short", action="store_true", help="fewer repeats")
    parser.add_argument(
        "--data",
        type=Path,
        default=_data(),
        help="folder with coat/ and yahoo-r3/; CONTRAREC_DATA, or ../shared/data where it exists",
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="CSV to append to")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in BENCHMARKS:
            parser.error(f"no benchmark is called {name!r}; there are {', '.join(BENCHMARKS)}")
        if name in ON_DATA and options.data is None:
            parser.error(f"{name} needs --data")
    if options.data is not None and not options.data.is_dir():
        parser.error(f"--data: no folder {options.data}")
    out = options.out or (None if options.short else ROOT / "benchmarks" / "results.csv")

    about = environment(options.threads)
    for name in options.names or BENCHMARKS:
        if name in ON_DATA and options.data is None:
            print(f"{name}: not run, it needs --data", file=sys.stderr)
            continue
        cr.set_threads(options.threads)
        rows = []
        for row in with_peak(BENCHMARKS[name](options)):
            print(line(row), flush=True)
            rows.append(about | row)
        if out:
            append(out, rows)


def line(row: Row) -> str:
    """Say a row in one line."""
    text = f"{row['what']}: {row['shape']}: "
    parts = []
    if row.get("seconds") is not None:
        parts.append(f"{row['seconds'] * 1e3:.2f} ms")
    if row.get("ratio") is not None:
        parts.append(f"{row['ratio']:.3g} × as fast as {row['other']}")
    if row.get("rate") is not None:
        parts.append(f"{row['rate']:.3g} a second")
    if row.get("quality") is not None:
        parts.append(f"NDCG@20 {row['quality']:.4f}")
    return text + ", ".join(parts)


def _data() -> Path | None:
    folder = Path(os.environ.get("CONTRAREC_DATA") or ROOT.parent / "shared" / "data")
    return folder if folder.is_dir() else None


if __name__ == "__main__":
    main()
