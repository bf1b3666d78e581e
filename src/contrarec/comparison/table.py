"""What a comparison found: rows, contrasts between methods, and the table they make."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

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
    headline: tuple[str, ...]
    """Metrics that were tested."""
    n_users: dict[str, int]
    """Test set → users counted."""
    n_resamples: int
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
        wanted = (backbone, method, against, test, metric)
        for c in self.contrasts:
            if (c.backbone, c.method, c.against, c.test, c.metric) == wanted:
                return c
        return None

    def definitions(self) -> dict[str, str]:
        """Say how the figures are to be read."""
        return {
            "values": "mean ± standard deviation over seeds of the mean over users",
            "difference": "to the other method of the same backbone, on per-user values averaged "
            "over seeds",
            "interval": f"95 %, bootstrap over users of the paired differences "
            f"({self.n_resamples} resamples); the trained seeds count as given",
            "p": f"two-sided, {self.n_resamples} random sign flips of the users' differences; "
            "Holm's correction over all methods and backbones of a test set, metric and reference "
            "method",
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
            "headline": list(self.headline),
            "users": self.n_users,
            "rows": [row.to_dict() for row in self.rows],
            "contrasts": [asdict(contrast) for contrast in self.contrasts],
            "definitions": self.definitions(),
        }

    def to_markdown(self) -> str:
        """Return the table, one per test set, and how to read it."""
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
                    yield {
                        "backbone": row.backbone,
                        "method": row.method,
                        "test": test,
                        "metric": metric,
                        "mean": mean,
                        "sd": deviation,
                        "seeds": len(self.seeds),
                        **{name: tested.get(name) for name in _TESTED},
                        "best_epoch": row.average("best_epoch"),
                        "epochs": row.average("epochs"),
                        "seconds_per_epoch": row.seconds_per_epoch,
                    }

    def _section(self, test: str) -> str:
        title = f"**{self.data}, test set `{test}`** ({self.n_users[test]} users)"
        return f"{title}\n\n{markdown_table([self._cells(row, test) for row in self.rows])}"

    def _cells(self, row: Row, test: str) -> dict[str, str]:
        cells, seconds = {"backbone": row.backbone, "method": row.method}, row.seconds_per_epoch
        cutoff = self.headline[0].partition("@")[2]
        for metric in (f"{kind}@{cutoff}" for kind in SHOWN):
            cells[metric] = format_mean(*row.summary(test, metric))
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
            ]
        return " ".join(parts)

    def _beside(self) -> str:
        some = any(row.backbone == NO_BACKBONE for row in self.rows)
        return f" (for a method without one on {self.backbones[0]})" if some else ""


_TESTED = ("against", "difference", "low", "high", "p", "p_holm")


def markdown_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Lay out rows with the same columns, aligned for reading as plain text, too.

    >>> print(markdown_table([{"loss": "bpr", "recall": ".1"}]))
    | loss | recall |
    | ---- | ------ |
    | bpr  | .1     |
    """
    header = list(rows[0])
    widths = [max(3, len(name), *(len(row[name]) for row in rows)) for name in header]
    lines = [header, ["-" * width for width in widths], *(list(row.values()) for row in rows)]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def format_mean(mean: float, deviation: float | None) -> str:
    """Format a mean and its standard deviation.

    >>> format_mean(0.27412, 0.00208), format_mean(0.27412, None)
    ('.2741 ± .0021', '.2741')
    """
    text = decimal(mean)
    return text if deviation is None else f"{text} ± {decimal(deviation)}"


def format_contrast(contrast: Contrast) -> str:
    """Format a difference with its interval and corrected p-value."""
    p = "p < .001" if contrast.p_holm < 0.001 else f"p {decimal(contrast.p_holm, digits=3)}"
    return f"{format_difference(contrast.difference, contrast.low, contrast.high)} {p}"


def format_difference(difference: float, low: float, high: float) -> str:
    """Format a difference with its interval.

    >>> format_difference(0.0102, -0.001, 0.02)
    '+.0102 [−.0010, +.0200]'
    """
    return f"{decimal(difference, '+')} [{decimal(low, '+')}, {decimal(high, '+')}]"


def decimal(value: float, sign: str = "", digits: int = 4) -> str:
    """Format a number without the zero before the point, and with a true minus."""
    text = f"{value:{sign}.{digits}f}".replace("-", "−")
    return text.replace("0.", ".", 1) if text.lstrip("+−").startswith("0.") else text
