"""Epochs of Yahoo! R3 with the published settings, beside the official code's."""

import itertools
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import contrarec as cr
from benchmarks.record import Row, ensure, summary
from contrarec.training.loop import Hooks

WHAT = "epoch: Yahoo! R3"
REFERENCE = Path(__file__).parent / "reference.json"


def rows(data: Path, *, short: bool) -> Iterator[Row]:
    """Yield epochs of both backbones and losses; with an adversary, those with its pass apart.

    A ratio compares with the official code's time, which was taken in another run.
    """
    official = json.loads(REFERENCE.read_text(encoding="utf-8"))["epoch"]["seconds"]
    yahoo = cr.Dataset.load(data / "yahoo-r3")
    for backbone in ("mf", "lightgcn"):
        for loss in ("infonce", "advinfonce"):
            lines = epochs(yahoo, backbone, loss, 9 if short else 24)
            plain, adversarial = split_epochs(lines)
            yield {
                "what": WHAT,
                "shape": f"{backbone} {loss}",
                "other": "official code",
                "other_seconds": official[backbone],
                "ratio": official[backbone] / statistics.median(plain),
            } | summary(plain)
            if adversarial:
                shape = f"{backbone} {loss}, with an adversarial pass"
                yield {"what": WHAT, "shape": shape} | summary(adversarial)


def epochs(data: cr.Dataset, backbone: str, loss: str, n: int) -> list[dict[str, Any]]:
    """Train `n` epochs, evaluated only at the end, and return their lines of the log."""
    lines: list[dict[str, Any]] = []
    rec = cr.Recommender(
        backbone, loss, preset="yahoo-r3", device="cpu", epochs=n, eval_every=n
    ).fit(data, hooks=Hooks(on_epoch=lines.append))
    ensure(len(lines) == rec.result["epochs"] == n, f"{len(lines)} epochs of {n}")
    losses = [line["loss"] for line in lines]
    ensure(losses[-1] < losses[0], f"the loss of {backbone} {loss} did not fall: {losses}")
    return lines


def split_epochs(lines: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """Return the seconds of epochs without and with an adversarial pass.

    The first epoch is left out, since it loads the kernels, and the last, since it evaluates.
    """
    plain, adversarial = [], []
    for before, line in itertools.pairwise(lines[:-1]):
        kind = adversarial if "adversary_loss" in line else plain
        kind.append(line["seconds"] - before["seconds"])
    return plain, adversarial
