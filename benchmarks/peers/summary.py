"""From the points of `results.csv` to the tables: what each run reached, and when."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from contrarec.comparison.layout import decimal, markdown_table

COLUMNS = [
    "started", "commit", "machine", "threads", "data", "interactions", "library", "version",
    "model", "setting", "negatives", "epoch", "seconds", "valid_ndcg20", "test_ndcg20", "ended",
]  # fmt: skip
SESSION = ("commit", "machine", "threads", "data")
FRACTIONS = (0.8, 0.9, 0.95, 0.99)
STATED = 0.95
OURS = "contrarec"

Row = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One evaluation of a run."""

    epoch: int
    seconds: float
    """Of training so far."""
    valid: float
    test: float | None
    """Where `valid` was the best so far."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One setting of one model, and everything measured on it."""

    library: str
    version: str
    model: str
    setting: str
    negatives: str
    interactions: int
    ended: str
    """`patience`, `budget`, `total` or `failed: …`; `trial …` if another setting was better."""
    points: tuple[Point, ...]

    @property
    def name(self) -> str:
        """Library and model."""
        return f"{self.library} {self.model}"

    @property
    def best(self) -> Point:
        """The first evaluation with the best validation value."""
        return max(self.points, key=lambda point: point.valid)

    @property
    def epoch_seconds(self) -> float:
        """Median, over the stretches between evaluations, of seconds an epoch.

        The first stretch has what happens only once, and does not count if there is another.
        """
        ends = [(0, 0.0), *((point.epoch, point.seconds) for point in self.points)]
        stretches = [(t - s) / (n - m) for (m, s), (n, t) in pairwise(ends)]
        return median(stretches[1:] or stretches)

    @property
    def pairs_per_second(self) -> float | None:
        """(user, item) pairs that an epoch scores, a second; None if their number is not fixed."""
        if not self.negatives.isdigit():
            return None
        return self.interactions * (1 + int(self.negatives)) / self.epoch_seconds

    def reaches(self, level: float) -> Point | None:
        """Return the first evaluation at or above a validation level, if any."""
        return next((point for point in self.points if point.valid >= level), None)


def read_runs(rows: Iterable[Row]) -> list[Run]:
    """Collect the runs of rows of one session; of an entry that ran again, the last time counts."""
    rows = list(rows)
    latest = {(row["library"], row["model"]): row["started"] for row in rows}
    grouped: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if latest[row["library"], row["model"]] == row["started"]:
            key = (row["library"], row["model"], row["setting"])
            grouped.setdefault(key, []).append(row)
    return [
        Run(
            library=library,
            version=group[-1]["version"],
            model=model,
            setting=setting,
            negatives=group[-1]["negatives"],
            interactions=int(group[-1]["interactions"]),
            ended=group[-1]["ended"],
            points=tuple(
                Point(
                    epoch=int(row["epoch"]),
                    seconds=float(row["seconds"]),
                    valid=float(row["valid_ndcg20"]),
                    test=float(row["test_ndcg20"]) if row["test_ndcg20"] else None,
                )
                for row in group
                if row["epoch"]
            ),
        )
        for (library, model, setting), group in grouped.items()
    ]


def levels(runs: Sequence[Run]) -> dict[float, float]:
    """Return fraction → validation level: of the best value that any run reached."""
    best = max(run.best.valid for run in runs if run.points)
    return {fraction: fraction * best for fraction in FRACTIONS}


def main_table(runs: Sequence[Run], marks: Mapping[float, float]) -> str:
    """Return the runs that went on after their trials, as Markdown."""
    lines = []
    for run in runs:
        line = {"library": f"{run.library} {run.version}", "model": run.model}
        line |= {"setting": run.setting, "negatives": run.negatives}
        if not run.points:
            empty = ["s/epoch", "M pairs/s", "best valid", "test", *map(_to, marks)]
            lines.append(line | dict.fromkeys([*empty, _epochs_to(STATED)], "–") | _end(run))
            continue
        pairs, best = run.pairs_per_second, run.best
        line["s/epoch"] = f"{run.epoch_seconds:.3g}"
        line["M pairs/s"] = "–" if pairs is None else f"{pairs / 1e6:.3g}"
        line["best valid"] = decimal(best.valid)
        line["test"] = "–" if best.test is None else decimal(best.test)
        for fraction, level in marks.items():
            point = run.reaches(level)
            line[_to(fraction)] = "–" if point is None else f"{point.seconds:.3g}"
        stated = run.reaches(marks[STATED])
        line[_epochs_to(STATED)] = "–" if stated is None else str(stated.epoch)
        lines.append(line | _end(run))
    return markdown_table(lines)


def trial_table(runs: Sequence[Run]) -> str:
    """Return the settings that lost their trials, as Markdown."""
    if not runs:
        return "None."
    lines = []
    for run in runs:
        best = run.best if run.points else None
        lines.append(
            {
                "library": run.library,
                "model": run.model,
                "setting": run.setting,
                "epochs": str(run.points[-1].epoch) if best else "–",
                "s of training": f"{run.points[-1].seconds:.3g}" if best else "–",
                "best valid": decimal(best.valid) if best else "–",
                "ended": run.ended,
            }
        )
    return markdown_table(lines)


def faster_peers(runs: Sequence[Run], marks: Mapping[float, float]) -> str:
    """Say which peers reach a level before the fastest of ours, and which factors make it up."""
    lines = []
    for fraction, level in marks.items():
        reached = [(point, run) for run in runs if (point := run.reaches(level))]
        reached.sort(key=lambda pair: pair[0].seconds)
        own = next((pair for pair in reached if pair[1].library == OURS), None)
        for point, run in reached:
            if own is None:
                lines.append(f"- {fraction:.0%}: {_when(run, point)}; no entry of ours reaches it.")
            elif point.seconds < own[0].seconds:
                ratio = own[0].seconds / point.seconds
                epochs = own[0].epoch / point.epoch
                lines.append(
                    f"- {fraction:.0%}: {_when(run, point)}; the fastest of ours, "
                    f"{_when(own[1], own[0])}: {ratio:.2g} × faster, {epochs:.2g} × in epochs "
                    f"and {ratio / epochs:.2g} × in seconds an epoch."
                )
    return "\n".join(lines) or "No peer reaches any of the levels before the fastest of ours."


def page(rows: Sequence[Row]) -> str:
    """Return what stands between the marks of the README: the last session of each data set."""
    last = {row["data"]: tuple(row[name] for name in SESSION) for row in rows}
    parts = []
    for data, session in last.items():
        mine = [row for row in rows if tuple(row[name] for name in SESSION) == session]
        runs = read_runs(mine)
        if not any(run.points for run in runs):
            continue
        finals = [run for run in runs if not run.ended.startswith("trial")]
        lost = [run for run in runs if run.ended.startswith("trial")]
        marks = levels(runs)
        said = ", ".join(f"{f:.0%} = {decimal(level)}" for f, level in marks.items())
        commit, machine, threads, _ = session
        parts += [
            f"## {data}",
            f"Commit {commit}, {machine}, {threads} threads. Validation NDCG@20 to reach, in "
            f"parts of the best of all runs: {said}.",
            main_table(finals, marks),
            f"### {data}: where a peer is faster",
            faster_peers(finals, marks),
            f"### {data}: settings that lost their trials",
            trial_table(lost),
        ]
    return "\n\n".join(parts) or "Nothing has been measured yet."


def _to(fraction: float) -> str:
    return f"s to {fraction:.0%}"


def _epochs_to(fraction: float) -> str:
    return f"epochs to {fraction:.0%}"


def _end(run: Run) -> dict[str, str]:
    return {"ended": run.ended}


def _when(run: Run, point: Point) -> str:
    return f"{run.name} in {point.seconds:.3g} s ({point.epoch} epochs)"
