"""Compare contrarec with other libraries: same data, machine, threads and evaluation.

    python benchmarks/peers/install.py
    python benchmarks/peers/run.py                                # Yahoo! R3, everything
    python benchmarks/peers/run.py --data ../shared/data/coat --only implicit,contrarec

Every measured point is a row of `results.csv`; the tables of the README are made from it. An entry
that has its rows for this commit, machine, data and number of threads is not run again.
"""

import argparse
import csv
import datetime
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from install import DEFAULT as ENVIRONMENTS
from race import Entrant, Runner, race
from summary import COLUMNS, OURS, SESSION, page

import contrarec as cr
from contrarec.errors import ContrarecError
from contrarec.evaluation.protocol import evaluate
from contrarec.evaluation.ranking import dot_scorer
from contrarec.files import write_text
from contrarec.presets import preset_names

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
START, END = "<!-- tables: made by benchmarks/peers/run.py -->", "<!-- end of the tables -->"
DATA = Path(os.environ.get("CONTRAREC_DATA") or ROOT.parent / "shared" / "data")
MADE = (":!benchmarks/peers/results.csv", ":!benchmarks/peers/README.md")  # by running this
DIM = 64

Json = dict[str, Any]
Row = dict[str, Any]


def vectors_ndcg(data: cr.Dataset, vectors: Path, on_test: bool) -> float:
    """Return NDCG@20 of a file of vectors, on the validation set or the first test set."""
    with np.load(vectors) as arrays:
        users, items = torch.from_numpy(arrays["users"]), torch.from_numpy(arrays["items"])
    test = next(iter(data.tests.values())) if on_test else data.valid
    if test is None:
        raise SystemExit(f"{data.name}: needs a validation set to choose epochs by.")
    found = evaluate(dot_scorer(users, items), test, ks=(20,), metrics=("ndcg",))
    return found.metrics()["ndcg@20"]


class Course:
    """The data on which all run, and how each library is started on them."""

    def __init__(self, data: cr.Dataset, about: Json, options: argparse.Namespace) -> None:
        self._data, self._about, self._options = data, about, options
        self._preset = data.name if data.name in preset_names() else None
        self._folder = Path(tempfile.mkdtemp(prefix="peers-", dir=options.environments))
        self._log = self._folder / "train.npz"
        train = data.train
        np.savez(self._log, indptr=train.indptr, indices=train.indices, n_items=train.n_items)

    def clear(self) -> None:
        """Remove the files that were made for the runners."""
        shutil.rmtree(self._folder)

    def entrants(self, entry: Json) -> list[Entrant]:
        """Return an entrant for each setting of an entry of `peers.toml`."""

        def measure(vectors: Path, on_test: bool) -> float:
            return vectors_ndcg(self._data, vectors, on_test)

        return [
            Entrant(
                name=(entry["library"], entry["model"]),
                setting=setting,
                start=lambda setting=setting: self._start(entry, setting),
                measure=measure,
            )
            for setting in entry["settings"]
        ]

    def _start(self, entry: Json, setting: Json) -> Runner:
        folder = Path(tempfile.mkdtemp(prefix=f"{entry['library']}-", dir=self._folder))
        threads = str(self._options.threads)
        names = ("OMP", "MKL", "OPENBLAS", "NUMBA")
        variables = dict.fromkeys((f"{name}_NUM_THREADS" for name in names), threads)
        environment = environment_of(entry)
        variables |= self._about["environment"].get(environment, {}).get("variables", {})
        variables["TMPDIR"] = str(folder)
        job = {
            "model": entry["model"],
            "options": setting,
            "dim": DIM,
            "seed": self._options.seed,
            "threads": self._options.threads,
            "every": entry["every"],
            "preset": self._preset if entry.get("preset") else None,
            "folder": str(folder),
        }
        script = HERE / "runners" / f"on_{entry['library']}.py"
        python = python_of(environment, self._options.environments)
        command = [str(python), "-W", "ignore", str(script), str(self._log), json.dumps(job)]
        return Runner(command, variables, folder / "log.txt")


def environment_of(entry: Json) -> str:
    """Return the name of the environment that an entry runs in."""
    return str(entry.get("environment", entry["library"]))


def python_of(environment: str, folder: Path) -> Path:
    """Return the Python of an environment; ours for contrarec."""
    return Path(sys.executable) if environment == OURS else folder / environment / "bin" / "python"


def wanted(entries: Iterable[Json], done: set[tuple[str, str]], options: Any) -> list[Json]:
    """Return the entries that are to run, and say why others are not."""
    chosen = []
    for entry in entries:
        name = f"{entry['library']} {entry['model']}"
        words = {entry["library"], name}
        environment = environment_of(entry)
        installed = (
            environment == OURS or (options.environments / environment / "complete").exists()
        )
        if options.only and not words & set(options.only.split(",")):
            continue
        if (entry["library"], entry["model"]) in done and not options.again:
            print(f"{name}: measured already")
        elif not installed:
            print(f"{name}: not installed, see install.py")
        else:
            chosen.append(entry)
    return chosen


def describe(setting: Json) -> str:
    """Write a setting as `name=value, …`."""
    flat = {}
    for key, value in setting.items():
        flat |= value if isinstance(value, dict) else {key: value}
    return ", ".join(f"{key}={value}" for key, value in flat.items()) or "default"


def rows_of(entrant: Entrant, about: Row) -> list[Row]:
    """Return the rows of a run that has ended; one without numbers if it never got anywhere."""
    library, model = entrant.name
    about = about | {
        "library": library,
        "version": entrant.hello.get("version", ""),
        "model": model,
        "setting": describe(entrant.setting),
        "negatives": entrant.hello.get("negatives", ""),
    }
    rows = [
        about
        | {
            "epoch": point["epoch"],
            "seconds": f"{point['seconds']:.4f}",
            "valid_ndcg20": f"{point['valid']:.6f}",
            "test_ndcg20": "" if point["test"] is None else f"{point['test']:.6f}",
        }
        for point in entrant.points
    ] or [about]
    rows[-1] = rows[-1] | {"ended": entrant.ended}
    return rows


def commit() -> str:
    """Return the commit; `-dirty` if anything differs that could change a result."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--", "src", "benchmarks/peers", *MADE)
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("-dirty" if changed else "")


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the results so far."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append_rows(path: Path, rows: list[Row]) -> None:
    """Add rows to the results."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)


def write_page(readme: Path, results: Path) -> None:
    """Make the tables between the marks of the README anew."""
    before, _, rest = readme.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    write_text(readme, f"{before}{START}\n\n{page(read_rows(results))}\n\n{END}{after}")


def main() -> None:
    """Run what is missing, append its rows, make the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=DATA / "yahoo-r3", help="folder of split files"
    )
    parser.add_argument("--only", help="libraries or 'library model', between commas")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trial", type=float, default=10.0, help="seconds for each setting")
    parser.add_argument("--budget", type=float, default=300.0, help="seconds for each entry")
    parser.add_argument("--total", type=float, default=1400.0, help="seconds for all together")
    parser.add_argument("--patience", type=int, default=10, help="evaluations without a better one")
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS, help="see install.py")
    parser.add_argument("--results", type=Path, default=HERE / "results.csv")
    parser.add_argument("--again", action="store_true", help="run what has been measured, too")
    parser.add_argument("--tables", action="store_true", help="only make the tables anew")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that runners and files are cleared
    if not options.tables:
        try:
            measure(options)
        except ContrarecError as error:
            raise SystemExit(str(error)) from None
    if options.results == HERE / "results.csv":
        write_page(HERE / "README.md", options.results)
    else:
        print(page(read_rows(options.results)))


def measure(options: argparse.Namespace) -> None:
    """Run the race and append what it measures."""
    options.environments.mkdir(parents=True, exist_ok=True)
    about = tomllib.loads((HERE / "peers.toml").read_text(encoding="utf-8"))
    data = cr.Dataset.load(options.data)
    session = {
        "started": datetime.datetime.now().isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": options.threads,
        "data": data.name,
        "interactions": data.train.nnz,
    }
    cr.set_threads(options.threads)
    done = {
        (row["library"], row["model"])
        for row in read_rows(options.results)
        if all(row[name] == str(session[name]) for name in SESSION)
        and row["ended"] in ("patience", "budget", "total")
    }
    course = Course(data, about, options)
    try:
        entries = [course.entrants(entry) for entry in wanted(about["entry"], done, options)]
        ended = race(
            entries,
            trial=options.trial,
            budget=options.budget,
            total=options.total,
            patience=options.patience,
        )
        for entrant in ended:
            append_rows(options.results, rows_of(entrant, session))
            name = " ".join(entrant.name)
            epochs = entrant.points[-1]["epoch"] if entrant.points else 0
            print(
                f"{name} ({describe(entrant.setting)}): valid {entrant.best:.4f} after {epochs} "
                f"epochs and {entrant.spent:.0f} s: {entrant.ended}",
                flush=True,
            )
    finally:
        course.clear()


if __name__ == "__main__":
    main()
