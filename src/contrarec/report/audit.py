"""An audit as a report: quality against shift, the trade-off, groups, lists, weighed metrics."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from contrarec.audit.contrast import KEPT, SHIFTED, Estimate
from contrarec.audit.result import Audit
from contrarec.comparison.layout import format_difference
from contrarec.report.blocks import Chart, Page, Section, Table, Text
from contrarec.report.charts import Spec, name, number, tooltip, with_interval

POSITIVES = "the set's positives"
"""What stands beside the methods where lists are looked at."""
TIPS = tooltip(method="method", set="set", mean="mean", low="from", high="to")


def write_report(audit: Audit, path: Path, commands: Sequence[str]) -> None:
    """Write an audit as one HTML file.

    Raises:
        BackendError: the extra `report` is not installed.
    """
    from contrarec.report.page import write_page

    write_page(audit_page(audit, commands), path)


def audit_page(audit: Audit, commands: Sequence[str]) -> Page:
    """Return the report of an audit.

    Args:
        audit: what was found.
        commands: what to type to get it again.
    """
    sections = [
        Section(title="Quality under shift", blocks=list(_quality(audit))),
        Section(title="Popular and rare items", blocks=list(_groups(audit))),
        Section(title="What the lists are made of", blocks=list(_lists(audit))),
    ]
    if audit.weighing:
        sections.append(Section(title="Without the log's bias", blocks=list(_weighed(audit))))
    sections += [
        Section(title="Sets and methods", blocks=list(_sets(audit))),
        Section(title="How to read it", blocks=[_definitions(audit), *_notes(audit)]),
    ]
    return Page(
        title=f"Audit of {audit.data}",
        summary=audit.summary,
        sections=sections,
        commands=commands,
        versions={package: version(package) for package in ("contrarec", "torch", "numpy")},
    )


def _quality(audit: Audit) -> Iterator[Chart | Table]:
    shift = {info.name: info.shift for info in audit.sets}
    for metric in audit.headline:
        rows = [
            {"method": method.label, "set": place, "shift": shift[place], **_ends(values[metric])}
            for method in audit.methods
            for place, values in method.metrics.items()
        ]
        yield Chart(
            title=f"{metric} against shift",
            spec=_lines(number("shift", "shift of popularity (KL to train in nats)"), metric),
            rows=rows,
            note=f"A point per set: {', '.join(info.name for info in audit.sets)}. Bands and bars: "
            "95 % interval over users. Sets differ in how hard they are, too: compare the methods "
            "on a set.",
        )
        if audit.reference and audit.shifted:
            yield _trade_off(audit, metric)
        yield _quality_table(audit, metric)
    yield _differences(audit)


def _trade_off(audit: Audit, metric: str) -> Chart:
    place = SHIFTED if len(audit.shifted) > 1 else audit.shifted[0]
    rows = []
    for method in audit.methods:
        inside = method.metrics[audit.reference or ""][metric]
        outside = (
            method.overall[metric][place] if place == SHIFTED else method.metrics[place][metric]
        )
        ends = _ends(outside, "shifted", "shifted ") | _ends(inside, "in distribution", "in ")
        rows.append({"method": method.label, **ends})
    x = number("in distribution", f"{metric} in distribution ({audit.reference})")
    y = number("shifted", f"{metric}, {place}")
    across = {"x": {**x, "field": "in low"}, "x2": {"field": "in high"}, "y": y}
    upright = {"x": x, "y": {**y, "field": "shifted low"}, "y2": {"field": "shifted high"}}
    return Chart(
        title=f"{metric}: in distribution and under shift",
        spec={
            "encoding": {"color": name("method")},
            "layer": [
                {"mark": "rule", "encoding": across},
                {"mark": "rule", "encoding": upright},
                {"mark": {"type": "point", "size": 90}, "encoding": {"x": x, "y": y}},
            ],
        },
        rows=rows,
        note="Further up is better under shift, further right is better in distribution. Bars: 95 "
        "% intervals over users.",
    )


def _quality_table(audit: Audit, metric: str) -> Table:
    names = _names(audit)
    overall = list(audit.methods[0].overall[metric])
    rows = [
        [
            method.label,
            *(method.metrics[place][metric].mean for place in names),
            *(method.overall[metric][place].mean for place in overall),
        ]
        for method in audit.methods
    ]
    return Table(
        title=metric,
        columns=["method", *names, *overall],
        rows=rows,
        note=f"{SHIFTED}: {audit.definitions()[SHIFTED]}. {KEPT}: {audit.definitions()[KEPT]}.",
    )


def _differences(audit: Audit) -> Table:
    rows = [
        [
            f.metric, f.where, f.method, f.against,
            format_difference(f.difference, f.low, f.high), f.p, f.p_holm,
        ]
        for f in audit.differences
    ]  # fmt: skip
    return Table(
        title="Differences between methods",
        columns=["metric", "where", "method", "less", "difference [95 %]", "p", "p corrected"],
        rows=rows,
        note=f"p: {audit.definitions()['p']}.",
    )


def _groups(audit: Audit) -> Iterator[Chart | Table]:
    metric = f"recall@{audit.k}"
    rows: list[dict[str, Any]] = [
        {"method": method.label, "set": place, "group": group, **_ends(value)}
        for method in audit.methods
        for place, groups in method.groups.items()
        for group, value in groups.items()
    ]
    yield Chart(
        title=f"{metric} of head, middle and tail items",
        spec={
            "facet": name("group"),
            "columns": 3,
            "spec": {"width": 240, **_dots(metric, _names(audit))},
        },
        rows=rows,
        note=f"Groups: {audit.definitions()['groups']}.",
    )
    yield Table(
        title=f"{metric} per group",
        columns=["method", "set", "group", "recall", "from", "to"],
        rows=[
            [row["method"], row["set"], row["group"], row["mean"], row["low"], row["high"]]
            for row in rows
        ],
    )


def _lists(audit: Audit) -> Iterator[Chart | Table]:
    meaning = audit.definitions()
    for figure, title in (("head_share", "Head items in the lists"), ("coverage", "Coverage")):
        rows = [
            {"method": method.label, "set": place, **_ends(lists[figure])}
            for method in audit.methods
            for place, lists in method.lists.items()
        ]
        if figure == "head_share":
            rows += [
                {"method": POSITIVES, "set": info.name, "mean": info.head_share}
                for info in audit.sets
            ]
        yield Chart(
            title=title,
            spec=_dots(figure.replace("_", " "), _names(audit)),
            rows=rows,
            note=f"{meaning[figure][0].upper()}{meaning[figure][1:]}.",
        )
    columns = list(next(iter(audit.methods[0].lists.values())))
    yield Table(
        title="Lists",
        columns=["method", "set", *(column.replace("_", " ") for column in columns)],
        rows=[
            [method.label, place, *(lists[column].mean for column in columns)]
            for method in audit.methods
            for place, lists in method.lists.items()
        ],
        note=f"Gini: {meaning['gini']}. Mean percentile: {meaning['mean_percentile']}.",
    )


def _weighed(audit: Audit) -> Iterator[Text | Table]:
    for weighing in audit.weighing:
        rows = [
            [method.label, value.metric, *value.plain, *value.snips, *(value.ips or (None,) * 3)]
            for method in audit.methods
            for value in method.unbiased[weighing.set]
        ]
        yield Table(
            title=f"Weighed by one over the propensity: {weighing.set}",
            columns=[
                "method", "metric",
                "plain", "plain from", "plain to",
                "snips", "snips from", "snips to",
                "ips", "ips from", "ips to",
            ],
            rows=rows,
            note=f"Propensities: {weighing.source}; below {weighing.clip:g} counted as that "
            f"({100 * weighing.clipped:.1f} % of the positives). Worth {weighing.effective:.0f} of "
            f"{weighing.positives} positives (Kish)"
            f"{': too few to say much' if weighing.small else ''}.",
        )  # fmt: skip


def _sets(audit: Audit) -> Iterator[Table]:
    columns = list(asdict(audit.sets[0]))
    yield Table(
        title="Sets",
        columns=[column.removeprefix("n_").replace("_", " ") for column in columns],
        rows=[
            [", ".join(v) if isinstance(v, tuple) else v for v in asdict(info).values()]
            for info in audit.sets
        ],
        note=f"Shift: {audit.definitions()['shift']}. Head share and mean percentile: of the "
        "positives.",
    )
    keys = list(audit.methods[0].runs[0])
    yield Table(
        title="Runs",
        columns=["method", "backbone", *(key.replace("_", " ") for key in keys)],
        rows=[
            [method.label, method.backbone, *run.values()]
            for method in audit.methods
            for run in method.runs
        ],
    )
    yield Table(
        title="Settings",
        columns=["setting", "value"],
        rows=[[key, _words(value)] for key, value in audit.settings.items()],
    )


def _definitions(audit: Audit) -> Table:
    return Table(
        title="Definitions",
        columns=["figure", "meaning"],
        rows=[[figure, text] for figure, text in audit.definitions().items()],
    )


def _notes(audit: Audit) -> Iterator[Text]:
    if audit.notes:
        yield Text(paragraphs=audit.notes)


def _lines(x: Spec, title: str) -> Spec:
    """Lines with bands: a line per method, bars where two bands would hide each other."""
    ends = {"y": number("low", title), "y2": {"field": "high"}}
    mean = {"y": number("mean", title)}
    colour = name("method", legend={"symbolOpacity": 1})  # not as pale as the bands
    return {
        "encoding": {"x": x, "color": colour, "tooltip": TIPS},
        "layer": [
            {"mark": {"type": "area", "opacity": 0.15, "tooltip": False}, "encoding": ends},
            {"mark": {"type": "rule", "opacity": 0.6}, "encoding": ends},
            {"mark": "line", "encoding": mean},
            {"mark": "point", "encoding": mean},
        ],
    }


def _dots(title: str, sets: Sequence[str]) -> Spec:
    """Points with bars, the methods one below the other in each set."""
    return with_interval(
        number("mean", title),
        name("set", sort=list(sets)),
        name("method"),
        yOffset={"field": "method", "type": "nominal", "sort": None},
        tooltip=TIPS,
    )


def _ends(found: Estimate, mean: str = "mean", prefix: str = "") -> dict[str, float]:
    return {mean: found.mean, f"{prefix}low": found.low, f"{prefix}high": found.high}


def _names(audit: Audit) -> list[str]:
    return [info.name for info in audit.sets]


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {_words(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
