"""From nothing to a given quality: whole runs, with evaluation and stopping."""

import contextlib
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import contrarec as cr
from benchmarks.record import ROOT, Row, ensure
from contrarec.training.loop import Hooks, Metrics

COAT = "quality: Coat to early stop"
YAHOO = "quality: Yahoo! R3 to a validation NDCG@20"
REFERENCE = Path(__file__).parent / "reference.json"
COAT_RUNS = ROOT / "docs" / "results" / "coat-20-seeds.json"
METRIC = "ndcg@20"


class Reached(Exception):
    """Leaves training when validation is as good as wanted."""


def rows(data: Path, *, short: bool) -> Iterator[Row]:
    """Yield Coat to its early stop, then Yahoo! R3 until the goal of `reference.json`."""
    coat = cr.Dataset.load(data / "coat")
    cr.Recommender("lightgcn", "advinfonce", preset="coat", device="cpu", epochs=40).fit(coat)
    yield early_stop(coat)
    if short:
        return
    goal = json.loads(REFERENCE.read_text(encoding="utf-8"))["quality"][METRIC]
    yahoo = replace(cr.Dataset.load(data / "yahoo-r3"), tests={})
    for backbone in ("mf", "lightgcn"):
        for loss in ("infonce", "advinfonce"):
            yield until(yahoo, backbone, loss, goal)


def early_stop(coat: cr.Dataset) -> Row:
    """Train to the early stop; the test NDCG@20 must be one of those of `docs/results/`."""
    rec = cr.Recommender("lightgcn", "advinfonce", preset="coat", device="cpu")
    start = time.perf_counter()
    rec.fit(coat)
    seconds = time.perf_counter() - start
    reached = rec.result["metrics"]["ood"][METRIC]
    known = _known_values()
    middle, width = statistics.mean(known), 4 * statistics.stdev(known)
    ensure(
        abs(reached - middle) <= width,
        f"{METRIC} on Coat is {reached:.4f}, docs/results says {middle:.4f} ± {width:.4f}",
    )
    return {
        "what": COAT,
        "shape": "lightgcn advinfonce",
        "seconds": seconds,
        "epochs": rec.result["epochs"],
        "quality": reached,
    }


def until(data: cr.Dataset, backbone: str, loss: str, goal: float) -> Row:
    """Train until validation reaches `goal`; evaluation is part of the time."""
    reached: list[tuple[int, float]] = []

    def on_eval(epoch: int, metrics: Metrics, _: bool) -> None:
        if metrics["valid"][METRIC] >= goal:
            reached.append((epoch, metrics["valid"][METRIC]))
            raise Reached

    rec = cr.Recommender(backbone, loss, preset="yahoo-r3", device="cpu")
    start = time.perf_counter()
    with contextlib.suppress(Reached):
        rec.fit(data, hooks=Hooks(on_eval=on_eval))
    seconds = time.perf_counter() - start
    ensure(bool(reached), f"{backbone} {loss} stopped before its validation {METRIC} was {goal}")
    ((epochs, quality),) = reached
    return {
        "what": YAHOO,
        "shape": f"{backbone} {loss}, NDCG@20 of {goal}",
        "seconds": seconds,
        "epochs": epochs,
        "quality": quality,
    }


def _known_values() -> list[float]:
    comparison = json.loads(COAT_RUNS.read_text(encoding="utf-8"))
    for row in comparison["rows"]:
        if (row["backbone"], row["method"]) == ("lightgcn", "advinfonce"):
            values: list[float] = row["metrics"]["ood"][METRIC]["values"]
            return values
    raise ValueError(f"{COAT_RUNS} has no row of lightgcn advinfonce.")
