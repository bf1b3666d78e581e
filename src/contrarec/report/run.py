"""The report of a run: how good it is, how it got there, on what, with which settings."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contrarec import runs
from contrarec.comparison.layout import decimal
from contrarec.config import NO_BACKBONE, to_override
from contrarec.errors import DataError
from contrarec.evaluation.protocol import GROUP_METRICS, Evaluation
from contrarec.report.blocks import Chart, Page, Section, Table, Text
from contrarec.report.charts import choice, name, number, tooltip, with_interval
from contrarec.report.course import course
from contrarec.settings import Settings, resolve_settings
from contrarec.training.metrics_log import read_log

_ENDS = {
    "patience": "Training stopped when validation improved no more",
    "epochs": "Training went through all its epochs",
    "fitted": "It was fitted, without epochs",
}


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What is known of a run."""

    folder: Path
    settings: Settings
    about: runs.RunData
    result: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]]
    evaluations: Mapping[str, Evaluation]

    @property
    def monitor(self) -> str:
        return self.settings.training.monitor

    @property
    def metrics(self) -> dict[str, Mapping[str, float]]:
        """Set → metric → mean: of the evaluations, and of sets without one, of training."""
        found = {name: evaluation.metrics() for name, evaluation in self.evaluations.items()}
        return {**self.result["metrics"], **found}

    @property
    def headline(self) -> tuple[str, ...]:
        """The metric that picks the best epoch and those beside it, at the same cutoff."""
        cutoff = self.monitor.partition("@")[2]
        kinds = dict.fromkeys([self.monitor, *(f"{kind}@{cutoff}" for kind in GROUP_METRICS)])
        return tuple(kinds)


def run_page(
    folder: Path,
    evaluations: Mapping[str, Evaluation],
    description: Mapping[str, Any] | None = None,
) -> Page:
    """Make the report of a finished run.

    Args:
        folder: the run's.
        evaluations: by set, with intervals and popularity groups; without any, the report has the
            metrics that training found, and says so.
        description: of the data, from `contrarec.data.report.describe`.

    Raises:
        DataError: the folder holds no finished run.
    """
    settings, about = runs.read_settings(folder)
    if not runs.is_finished(folder):
        raise DataError(f"{folder}: training has not finished; go on with it (--resume).")
    run = _Run(
        folder=folder,
        settings=settings,
        about=about,
        result=runs.read_result(folder),
        log=read_log(folder / "metrics.jsonl"),
        evaluations=evaluations,
    )
    sections = [*_quality(run), *_popularity(run), *_course(run), *_data(description)]
    return Page(
        title=f"{_method(settings)} on {about.name}",
        summary=list(_summary(run)),
        sections=[*sections, _settings(run), *_definitions(run)],
        commands=[_training_command(run), f"contrarec report {shlex.quote(str(folder))}"],
        versions=runs.read_versions(folder),
    )


def _method(settings: Settings) -> str:
    backbone = settings.backbone.name
    return (
        settings.loss_name if backbone == NO_BACKBONE else f"{settings.loss_name} with {backbone}"
    )


def _summary(run: _Run) -> Iterator[str]:
    for test, metrics in run.metrics.items():
        found = run.evaluations.get(test)
        text = f"{test}: {run.monitor} is {decimal(metrics[run.monitor])}"
        if found and run.monitor in found.intervals:
            low, high = found.intervals[run.monitor]
            text += (
                f", between {decimal(low)} and {decimal(high)} with 95 % confidence, on "
                f"{len(found.users):,} users"
            )
        yield f"{text}."
    if run.result["metrics"] and not run.evaluations:
        yield "The data of this run were not at hand, so there are no intervals here."
    for test, found in run.evaluations.items():
        if test != "valid":
            yield from _popularity_sentence(test, found, run.monitor)
    result = run.result
    end = f"{_ENDS[result['stopped']]}, in {result['seconds']:,.0f} s on {result['device']}"
    if not result["epochs"]:
        yield f"{end}."
    elif "valid" in result["metrics"]:
        yield (
            f"{end}. Epoch {result['best_epoch']} of {result['epochs']} was kept: the best on the "
            f"validation set by {run.monitor}; test sets had no say in that."
        )
    else:
        yield f"{end}. There was no validation set, so the last of {result['epochs']} was kept."


def _popularity_sentence(test: str, found: Evaluation, metric: str) -> Iterator[str]:
    values = {name: group.metrics().get(metric) for name, group in found.groups.items()}
    head, tail = values.get("head"), values.get("tail")
    if head is not None and tail is not None:
        yield (
            f"{test}, by popularity: {metric} is {decimal(head)} on head items and "
            f"{decimal(tail)} on tail items."
        )


def _quality(run: _Run) -> Iterator[Section]:
    columns = ["set", "metric", "mean", "95 % from", "to", "users"]
    rows, points = list[list[Any]](), list[dict[str, Any]]()
    for test, metrics in run.metrics.items():
        found = run.evaluations.get(test)
        for metric, value in metrics.items():
            low, high = found.intervals.get(metric, (None, None)) if found else (None, None)
            rows.append([test, metric, value, low, high, len(found.users) if found else None])
            points.append({"set": test, "metric": metric, "mean": value, "low": low, "high": high})
    if not points:
        return
    kinds = list(dict.fromkeys(point["metric"] for point in points))
    spec = choice("metric", kinds, run.monitor, "Metric") | with_interval(
        number("mean", "mean over users, 95 % interval", zero=True),
        name("set"),
        tooltip=tooltip(set="set", metric="metric", mean="mean", low="95 % from", high="to"),
    )
    note = "All items are ranked for every user with a positive. Intervals: bootstrap over users."
    yield Section(
        title="How good it is",
        blocks=[
            Chart(title="Quality on each set", spec=spec, rows=points, note=note),
            Table(title="All metrics", columns=columns, rows=rows),
        ],
    )


def _popularity(run: _Run) -> Iterator[Section]:
    rows, points = list[list[Any]](), list[dict[str, Any]]()
    for test, found in run.evaluations.items():
        for group, part in found.groups.items():
            values = part.metrics()
            rows.append(
                [test, group, part.n_items, part.train_share, part.n_users, part.n_truth]
                + [values.get(metric) for metric in run.headline]
            )
            points += [
                {
                    "set": test, "group": group, "metric": metric, "mean": value,
                    "low": part.intervals[metric][0], "high": part.intervals[metric][1],
                    "users": part.n_users,
                }
                for metric, value in values.items() if metric in part.intervals
            ]  # fmt: skip
    if not points:
        return
    kinds = list(dict.fromkeys(point["metric"] for point in points))
    spec = choice("metric", kinds, run.monitor, "Metric") | with_interval(
        number("mean", "mean over users, 95 % interval", zero=True),
        name("group"),
        name("set", "set"),
        yOffset=name("set"),
        tooltip=tooltip(
            set="set", group="items", mean="mean", low="95 % from", high="to", users="users"
        ),
    )
    columns = ["set", "items", "how many", "share of training", "users", "positives"]
    yield Section(
        title="By popularity",
        blocks=[
            Chart(
                title="Quality on popular and unpopular items",
                spec=spec,
                rows=points,
                note="Lists stay as they are; only positives of the group count, over the users "
                "who have one.",
            ),
            Table(
                title="Head, middle and tail",
                columns=[*columns, *run.headline],
                rows=rows,
                note="Each group holds about a third of the training interactions.",
            ),
        ],
    )


def _course(run: _Run) -> Iterator[Section]:
    if run.result["epochs"]:
        yield course(run.log, monitor=run.monitor, kept=run.result["best_epoch"])


def _data(description: Mapping[str, Any] | None) -> Iterator[Section]:
    if description is None:
        return
    parts = description["parts"]
    keys = list(dict.fromkeys(key for part in parts.values() for key in part))
    yield Section(
        title="The data",
        blocks=[
            Text(
                paragraphs=[
                    f"{description['name']}: {description['users']:,} users and "
                    f"{description['items']:,} items, of which {description['candidates']:,} may "
                    "be ranked.",
                    *description["notes"],
                ]
            ),
            Table(
                title="Parts",
                columns=["part", *(key.replace("_", " ") for key in keys)],
                rows=[[part, *(about.get(key) for key in keys)] for part, about in parts.items()],
                note=description["popularity_kl"],
            ),
        ],
    )


def _settings(run: _Run) -> Section:
    usual = _usual(run.settings).flat()
    rows = [
        [key, _shown(value), _shown(usual[key]), value != usual[key]]
        for key, value in run.settings.flat().items()
    ]
    return Section(
        title="Settings",
        blocks=[
            Table(
                title="Every setting of the run",
                columns=["setting", "value", "default", "changed"],
                rows=rows,
            )
        ],
    )


def _definitions(run: _Run) -> Iterator[Section]:
    definitions = dict[str, str]()
    for found in run.evaluations.values():
        definitions |= found.definitions
        masked = ", ".join(found.masked) or "nothing"
        definitions[f"masked on {found.name}"] = masked
    if definitions:
        rows = list(definitions.items())
        table = Table(title="Definitions", columns=["what", "how"], rows=rows)
        yield Section(title="How it was measured", blocks=[table])


def _training_command(run: _Run) -> str:
    settings, usual = run.settings, _usual(run.settings).flat()
    words = ["contrarec", "train", run.about.path or run.about.name]
    if settings.backbone.name != NO_BACKBONE:
        words += ["--backbone", settings.backbone.name]
    words += ["--loss", settings.loss_name, "--seed", str(settings.seed)]
    for key, value in settings.flat().items():
        if key != "seed" and value != usual[key]:
            words += ["--set", to_override(key, value)]
    return shlex.join([*words, "--out", str(run.folder)])


def _usual(settings: Settings) -> Settings:
    """Return the settings that the same backbone and loss have by default."""
    return resolve_settings(backbone=settings.backbone.name, loss=settings.loss_name)


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
