"""What a comparison found: rows, contrasts between methods, and the table they make."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from contrarec.comparison.layout import format_contrast, format_mean, markdown_table
from contrarec.comparison.leaders import SIGNIFICANT, Leaders, find_leaders
from contrarec.config import NO_BACKBONE
from contrarec.files import write_text

SHOWN = ("recall", "ndcg", "hit")
"""Kinds of metrics in the Markdown table; all of them are in the other two files."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A method on a backbone (`none` for a baseline), over seeds."""

    backbone: str
    method: str
    runs: tuple[dict[str, Any], ...]
    """Per seed: `seed`, `best_epoch`, `epochs`, `seconds`, `stopped`."""
    values: dict[str, dict[str, tuple[float, ...]]]
    """Test set → metric → one mean over users per seed."""

    @property
    def seconds_per_epoch(self) -> float | None:
        """Seconds of training and validation, over all seeds, per epoch; None without epochs."""
        epochs = sum(run["epochs"] for run in self.runs)
        return float(sum(run["seconds"] for run in self.runs) / epochs) if epochs else None

    def average(self, name: str) -> float:
        """Return the mean over seeds of `epochs`, `best_epoch` or `seconds`."""
        return float(np.mean([run[name] for run in self.runs]))

    def summary(self, test: str, metric: str) -> tuple[float, float | None]:
        """Return mean and standard deviation over seeds; the latter is None for a single one."""
        values = self.values[test][metric]
        deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
        return float(np.mean(values)), deviation

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        metrics: dict[str, dict[str, Any]] = {}
        for test, by_metric in self.values.items():
            metrics[test] = {}
            for metric, values in by_metric.items():
                mean, deviation = self.summary(test, metric)
                metrics[test][metric] = {"mean": mean, "sd": deviation, "values": list(values)}
        return {
            "backbone": self.backbone,
            "method": self.method,
            "seconds_per_epoch": self.seconds_per_epoch,
            "runs": list(self.runs),
            "metrics": metrics,
        }


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A method against another one of the same backbone, on one test set and metric."""

    backbone: str
    """That of both or, beside a baseline, of the one that has one."""
    method: str
    against: str
    test: str
    metric: str
    difference: float
    """Mean over users of the method's value minus the other's, each averaged over seeds."""
    low: float
    """Lower end of the 95 % interval of the difference, from resampling users."""
    high: float
    p: float
    """Two-sided, from random sign flips of the users' differences."""
    p_holm: float
    """Corrected for all contrasts of the same test set, metric and reference method."""

    def reversed(self) -> "Contrast":
        """Return the same contrast from the other method's side."""
        return replace(
            self,
            method=self.against,
            against=self.method,
            difference=-self.difference,
            low=-self.high,
            high=-self.low,
        )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `contrarec.comparison.compare` found."""

    data: str
    fingerprint: str
    preset: str | None
    overrides: Mapping[str, Any]
    methods: tuple[str, ...]
    backbones: tuple[str, ...]
    seeds: tuple[int, ...]
    monitor: str
    """Metric of the validation set that picked the best epochs; the tables are sorted by it."""
    headline: tuple[str, ...]
    """Metrics that were tested."""
    n_users: dict[str, int]
    """Test set → users counted."""
    n_resamples: int
    n_flips: int
    rows: tuple[Row, ...]
    contrasts: tuple[Contrast, ...]
    """Every method against every other of its backbone."""

    def to_first(self, row: Row, test: str, metric: str) -> Contrast | None:
        """Find the contrast of a row to the first method, on the same backbone.

        A baseline is set beside the first backbone. None for the first method itself.
        """
        wanted = (row.method, self.methods[0], test, metric)
        on_its_own = self.contrast(row.backbone, *wanted)
        return on_its_own or self.contrast(self.backbones[0], *wanted)

    def contrast(
        self, backbone: str, method: str, against: str, test: str, metric: str
    ) -> Contrast | None:
        """Find a contrast; None where none was made, as for a method against itself."""
        return self._by_place.get((backbone, method, against, test, metric))

    @cached_property
    def _by_place(self) -> dict[tuple[str, ...], Contrast]:
        return {(c.backbone, c.method, c.against, c.test, c.metric): c for c in self.contrasts}

    @cached_property
    def leaders(self) -> tuple[Leaders, ...]:
        """The best method and those that none beats: per backbone, test set and tested metric."""
        return tuple(find_leaders(self.rows, self.contrasts, self.headline))

    @cached_property
    def _leaders_by_place(self) -> dict[tuple[str, ...], Leaders]:
        return {(found.backbone, found.test, found.metric): found for found in self.leaders}

    def definitions(self) -> dict[str, str]:
        """Say how the figures are to be read."""
        return {
            "values": "mean ± standard deviation over seeds of the mean over users",
            "difference": "to the other method of the same backbone, on per-user values averaged "
            "over seeds",
            "interval": f"95 %, bootstrap over users of the paired differences "
            f"({self.n_resamples} resamples); the trained seeds count as given",
            "p": f"two-sided, {self.n_flips} random sign flips of the users' differences; "
            "Holm's correction over all methods and backbones of a test set, metric and reference "
            "method",
            "leaders": "the methods of a backbone that no other of them beats: none is better with "
            f"a corrected p of at most {SIGNIFICANT}",
            "seconds_per_epoch": "training and validation, mean over all epochs and seeds",
            "selection": "the best epoch is the one best on the validation set",
        }

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON; no per-user values."""
        return {
            "data": self.data,
            "fingerprint": self.fingerprint,
            "preset": self.preset,
            "overrides": dict(self.overrides),
            "methods": list(self.methods),
            "backbones": list(self.backbones),
            "seeds": list(self.seeds),
            "monitor": self.monitor,
            "headline": list(self.headline),
            "users": self.n_users,
            "rows": [row.to_dict() for row in self.rows],
            "leaders": [asdict(leaders) for leaders in self.leaders],
            "contrasts": [asdict(contrast) for contrast in self.contrasts],
            "definitions": self.definitions(),
        }

    def to_markdown(self) -> str:
        """Return a table per test set, the best method first, and how to read it."""
        return "\n\n".join([*map(self._section, self.n_users), self._footnote()]) + "\n"

    def to_csv(self) -> str:
        """Return one line per backbone, method, test set and metric."""
        text = io.StringIO()
        lines = list(self._lines())
        writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return text.getvalue()

    def save(self, folder: str | Path) -> None:
        """Write `comparison.md`, `comparison.csv` and `comparison.json`, each atomically."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        write_text(path / "comparison.md", self.to_markdown())
        write_text(path / "comparison.csv", self.to_csv())
        write_text(path / "comparison.json", json.dumps(self.to_dict(), indent=1) + "\n")

    def _lines(self) -> Iterator[dict[str, Any]]:
        for row in self.rows:
            for test, metrics in row.values.items():
                for metric in metrics:
                    mean, deviation = row.summary(test, metric)
                    contrast = self.to_first(row, test, metric)
                    tested = asdict(contrast) if contrast else {}
                    leaders = self._leaders_by_place.get((row.backbone, test, metric))
                    yield {
                        "backbone": row.backbone,
                        "method": row.method,
                        "test": test,
                        "metric": metric,
                        "mean": mean,
                        "sd": deviation,
                        "seeds": len(self.seeds),
                        **{name: tested.get(name) for name in _TESTED},
                        "best": leaders and row.method == leaders.best,
                        "leader": leaders and row.method in leaders.methods,
                        "best_epoch": row.average("best_epoch"),
                        "epochs": row.average("epochs"),
                        "seconds_per_epoch": row.seconds_per_epoch,
                    }

    def _section(self, test: str) -> str:
        title = f"**{self.data}, test set `{test}`** ({self.n_users[test]} users)"
        rows = sorted(self.rows, key=lambda row: -row.summary(test, self.monitor)[0])
        table = markdown_table([self._cells(row, test) for row in rows])
        return "\n\n".join([title, table, *self._leaders_lines(test)])

    def _leaders_lines(self, test: str) -> Iterator[str]:
        if len(self.methods) > 1:
            for found in self.leaders:
                if found.test == test:
                    others = [method for method in found.methods if method != found.best]
                    names = ", ".join([f"**{found.best}** (the best)", *others])
                    yield f"Leaders on {found.metric}, {found.backbone}: {names}."

    def _cells(self, row: Row, test: str) -> dict[str, str]:
        cells, seconds = {"backbone": row.backbone, "method": row.method}, row.seconds_per_epoch
        cutoff = self.headline[0].partition("@")[2]
        for metric in (f"{kind}@{cutoff}" for kind in SHOWN):
            cells[metric] = format_mean(*row.summary(test, metric))
            leaders = self._leaders_by_place.get((row.backbone, test, metric))
            if leaders and row.method in leaders.methods and len(self.methods) > 1:
                cells[metric] = f"**{cells[metric]}**"
            if metric in self.headline and len(self.methods) > 1:
                found = self.to_first(row, test, metric)
                cells[f"Δ {metric}"] = format_contrast(found) if found else ""
        return cells | {
            "s/epoch": "" if seconds is None else f"{seconds:.2g}",
            "best epoch": f"{row.average('best_epoch'):.0f}",
            "epochs": f"{row.average('epochs'):.0f}",
        }

    def _footnote(self) -> str:
        meaning = self.definitions()
        parts = [
            f"{len(self.seeds)} seeds: {meaning['values']}.",
            f"Epochs: {meaning['selection']}.",
        ]
        if len(self.methods) > 1:
            parts[1:1] = [
                f"Δ: difference to {self.methods[0]} on the same backbone"
                f"{self._beside()}, on per-user values averaged over seeds.",
                f"In brackets its interval: {meaning['interval']}.",
                f"p: {meaning['p']}.",
                f"Bold: the leaders, {meaning['leaders']}.",
            ]
        return " ".join(parts)

    def _beside(self) -> str:
        some = any(row.backbone == NO_BACKBONE for row in self.rows)
        return f" (for a method without one on {self.backbones[0]})" if some else ""


_TESTED = ("against", "difference", "low", "high", "p", "p_holm")
