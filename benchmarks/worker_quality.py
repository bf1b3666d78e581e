"""The same test metrics whatever the number of workers, on Coat and Yahoo! R3.

    python -m benchmarks.worker_quality --data FOLDER     # writes benchmarks/worker-quality.json

Every method is trained alone, and by 1, 2 and 4 workers that exchange by gloo, with the same
settings and seed. Yahoo! R3 gets a short schedule, as the record says.
"""

import argparse
import json
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import contrarec as cr
from benchmarks.crew import Crew, crew
from benchmarks.record import ROOT, environment
from contrarec.data.blocks import block_of, cut_points, slice_dataset
from contrarec.files import write_text
from contrarec.settings import resolve_settings

PATH = ROOT / "benchmarks" / "worker-quality.json"
METHODS = [(b, loss) for b in ("mf", "lightgcn") for loss in ("infonce", "advinfonce")]
SCHEDULES: dict[str, dict[str, Any]] = {
    "coat": {"epochs": 200, "eval_every": 20},
    "yahoo-r3": {"epochs": 10, "eval_every": 5},
}
"""Beside the preset of that name, whose schedules are longer."""
WORKERS = (1, 2, 4)
METRIC = "ndcg@20"

Row = dict[str, Any]


def rows(folder: Path, hands: Crew, workers: tuple[int, ...], **more: Any) -> Iterator[Row]:
    """Yield a row for the plain command and each number of workers, for every method.

    Args:
        folder: a data set that has a preset of its name.
        hands: who trains.
        workers: numbers of workers.
        **more: settings beside the preset and the schedule.
    """
    data = cr.Dataset.load(folder)
    for backbone, loss in METHODS:
        settings = resolve_settings(
            backbone=backbone, loss=loss, preset=folder.name, seed=0,
            overrides=SCHEDULES[folder.name] | more,
        )  # fmt: skip
        about: Row = {"data": folder.name, "backbone": backbone, "loss": loss}
        plain = cr.Recommender.from_settings(settings, device="cpu").fit(data)
        intervals = {name: found.intervals[METRIC] for name, found in plain.evaluate(data).items()}
        kept = _kept(plain.result["best_epoch"], plain.result["metrics"])
        yield about | {"workers": 0} | kept | {"intervals": intervals}
        for n in workers:
            cuts = pairwise(cut_points(data.train.user_counts, n))
            parts = [(slice_dataset(data, a, b), block_of(data.train, int(a))) for a, b in cuts]
            outcome, metrics = hands.train(settings, parts)
            yield about | {"workers": n} | _kept(outcome.best_epoch, metrics)


def _kept(best_epoch: int, metrics: dict[str, dict[str, float]]) -> Row:
    return {"best_epoch": best_epoch, METRIC: {name: m[METRIC] for name, m in metrics.items()}}


def main(arguments: list[str] | None = None) -> None:
    """Train everything and record what came out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    default = os.environ.get("CONTRAREC_DATA") or ROOT.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("names", nargs="*", help="data sets; both if none is named")
    options = parser.parse_args(arguments)
    kept = ("date", "commit", "machine", "cpu", "versions")
    about = {name: value for name, value in environment(1).items() if name in kept}
    known = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {"rows": []}
    with crew(*WORKERS) as hands:
        for name in options.names or SCHEDULES:
            found = []
            for row in rows(options.data / name, hands, WORKERS):
                print(json.dumps(row), flush=True)
                found.append(row)
            others = [row for row in known["rows"] if row["data"] != name]
            known = {"about": about, "schedules": SCHEDULES, "rows": others + found}
            write_text(PATH, json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
