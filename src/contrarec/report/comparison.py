"""The report of a comparison: which methods lead, by how much, and what they cost."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from contrarec import runs
from contrarec.comparison.layout import decimal
from contrarec.comparison.leaders import SIGNIFICANT
from contrarec.config import NO_BACKBONE, to_override
from contrarec.errors import DataError
from contrarec.report.blocks import Chart, Page, Section, Table
from contrarec.report.charts import choice, choices, name, number, tooltip, with_interval

FILE = "comparison.json"
VERDICTS = ("not beaten", "beaten")
COLOURS = 8
"""Methods that can be told apart by colour; beyond, a tooltip says which is which."""

Found = Mapping[str, Any]


def comparison_page(folder: Path) -> Page:
    """Make the report of a comparison.

    Args:
        folder: what `contrarec compare` wrote.

    Raises:
        DataError: the folder holds no comparison, or its file is damaged.
    """
    found = _read(folder)
    n_seeds = len(found["seeds"])
    sections = [_quality(found)]
    if found["contrasts"]:
        sections += [_differences(found), _leaders(found)]
    sections += [_cost(found), _measured(found)]
    path, versions = _of_a_run(folder)
    return Page(
        title=f"{len(found['methods'])} methods on {found['data']}, {n_seeds} seeds",
        summary=list(_summary(found)),
        sections=sections,
        commands=[_command(found, folder, path), f"contrarec report {shlex.quote(str(folder))}"],
        versions=versions,
    )


def _read(folder: Path) -> dict[str, Any]:
    path = folder / FILE
    if not path.is_file():
        raise DataError(f"{folder}: not a comparison (no {FILE} in it).")
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}).") from error
    return found


def _of_a_run(folder: Path) -> tuple[str | None, dict[str, str]]:
    """Return where the data were read from, and the versions, as a run of the comparison says."""
    for path in sorted(folder.iterdir()):
        if runs.is_started(path):
            return runs.read_settings(path)[1].path, runs.read_versions(path)
    return None, {}


def _summary(found: Found) -> Iterator[str]:
    for leader in found["leaders"]:
        if leader["metric"] != found["monitor"] or not found["contrasts"]:
            continue
        mean = _row(found, leader["backbone"], leader["best"])["metrics"][leader["test"]]
        text = (
            f"{leader['test']}, {leader['backbone']}: {leader['best']} is best by "
            f"{leader['metric']}, with {decimal(mean[leader['metric']]['mean'])}"
        )
        others = [method for method in leader["methods"] if method != leader["best"]]
        if others:
            text += f"; it does not beat {', '.join(others)} significantly"
        yield f"{text}."
    yield (
        f"{len(found['seeds'])} seeds each; a method is beaten where another is better with a "
        f"corrected p of at most {SIGNIFICANT}. Test sets had no say in which epochs were kept."
    )


def _row(found: Found, backbone: str, method: str) -> Found:
    rows = {(row["backbone"], row["method"]): row for row in found["rows"]}
    own: Found = rows.get((backbone, method)) or rows[NO_BACKBONE, method]
    return own


def _label(found: Found, row: Found) -> str:
    several = len({row["backbone"] for row in found["rows"]} - {NO_BACKBONE}) > 1
    has_one = row["backbone"] != NO_BACKBONE
    return f"{row['method']} · {row['backbone']}" if several and has_one else str(row["method"])


def _quality(found: Found) -> Section:
    points, rows = list[dict[str, Any]](), list[list[Any]]()
    tests, metrics = list(found["users"]), list(next(iter(found["rows"][0]["metrics"].values())))
    for row in found["rows"]:
        for test, values in row["metrics"].items():
            rows.append([row["method"], row["backbone"], test])
            for metric, value in values.items():
                rows[-1] += [value["mean"], value["sd"]]
                place = {
                    "method": _label(found, row), "backbone": row["backbone"], "test": test,
                    "metric": metric, "mean": value["mean"],
                    "low": value["mean"] - (value["sd"] or 0),
                    "high": value["mean"] + (value["sd"] or 0),
                }  # fmt: skip
                points += [
                    place | {"seed": seed, "value": one}
                    for seed, one in zip(found["seeds"], value["values"], strict=True)
                ]
    title = "mean ± sd, and each seed"
    order = {"field": "mean", "op": "max", "order": "descending"}
    spec = choices(
        choice("test", tests, tests[0], "Test set"),
        choice("metric", metrics, found["monitor"], "Metric"),
    ) | with_interval(
        number("mean", title),
        name("method", sort=order),
        name("backbone", "backbone"),
        tooltip=tooltip(method="method", mean="mean", low="− sd", high="+ sd"),
    )
    spec["layer"].append(
        {
            "mark": {"type": "tick", "thickness": 1, "opacity": 1},
            "encoding": {
                "x": number("value", title),
                "tooltip": tooltip(method="method", seed="seed", value="mean over users"),
            },
        }
    )
    columns = [title for metric in metrics for title in (metric, f"sd {metric}")]
    note = f"{found['definitions']['values']}. The best comes first."
    return Section(
        title="How good they are",
        blocks=[
            Chart(title="Quality of each method", spec=spec, rows=points, note=note),
            Table(
                title="All metrics", columns=["method", "backbone", "test set", *columns], rows=rows
            ),
        ],
    )


def _differences(found: Found) -> Section:
    rows = [
        {
            "test": leader["test"],
            "metric": leader["metric"],
            "backbone": leader["backbone"],
            "method": contrast["against"],
            "best": leader["best"],
            "difference": -contrast["difference"],
            "low": -contrast["high"],
            "high": -contrast["low"],
            "p": contrast["p_holm"],
            "verdict": VERDICTS[contrast["against"] not in leader["methods"]],
        }
        for leader in found["leaders"]
        for contrast in _of_best(found["contrasts"], leader)
    ]
    backbones = list(dict.fromkeys(row["backbone"] for row in rows))
    spec = choices(
        choice("test", list(found["users"]), next(iter(found["users"])), "Test set"),
        choice("metric", found["headline"], found["monitor"], "Metric"),
        choice("backbone", backbones, backbones[0], "Backbone"),
    ) | with_interval(
        number("difference", "difference to the best, 95 % interval", zero=True),
        name("method", sort={"field": "difference", "op": "max", "order": "descending"}),
        name("verdict", "by any method", scale={"domain": list(VERDICTS)}),
        tooltip=tooltip(
            method="method",
            best="best",
            difference="difference",
            low="95 % from",
            high="to",
            p="corrected p",
        ),
    )
    spec["layer"].insert(0, {"mark": "rule", "encoding": {"x": {"datum": 0}}})
    about = found["definitions"]
    titles = {"test": "test set", "low": "95 % from", "high": "to"}
    return Section(
        title="Differences to the best",
        blocks=[
            Chart(
                title="How far each method is from the best",
                spec=spec,
                rows=rows,
                note=f"Interval: {about['interval']}. p: {about['p']}.",
            ),
            Table(
                title="Differences to the best",
                columns=[titles.get(key, key) for key in rows[0]],
                rows=[list(row.values()) for row in rows],
            ),
        ],
    )


def _of_best(contrasts: Sequence[Found], leader: Found) -> Iterator[Found]:
    """Find the contrasts of a leader to all others: they are what decided about the leaders.

    Those of two baselines have no backbone.
    """
    wanted = (leader["test"], leader["metric"], leader["best"])
    for contrast in contrasts:
        place = (contrast["test"], contrast["metric"], contrast["method"])
        if place == wanted and contrast["backbone"] in (leader["backbone"], NO_BACKBONE):
            yield contrast


def _leaders(found: Found) -> Section:
    rows = [
        [x["test"], x["metric"], x["backbone"], x["best"], ", ".join(x["methods"][1:])]
        for x in found["leaders"]
    ]
    table = Table(
        title="The best, and those that none beats",
        columns=["test set", "metric", "backbone", "best", "not beaten either"],
        rows=rows,
        note=f"Leaders: {found['definitions']['leaders']}.",
    )
    return Section(title="Leaders", blocks=[table])


def _cost(found: Found) -> Section:
    points, rows = list[dict[str, Any]](), list[list[Any]]()
    metrics = list(next(iter(found["rows"][0]["metrics"].values())))
    for row in found["rows"]:
        means = {
            key: sum(run[key] for run in row["runs"]) / len(row["runs"])
            for key in ("seconds", "epochs", "best_epoch")
        }
        rows.append([row["method"], row["backbone"], *means.values(), row["seconds_per_epoch"]])
        points += [
            {
                "method": row["method"], "backbone": row["backbone"], "test": test,
                "metric": metric, "mean": value["mean"], "seconds": means["seconds"],
            }
            for test, values in row["metrics"].items()
            for metric, value in values.items()
        ]  # fmt: skip
    tests = list(found["users"])
    few = len(found["methods"]) <= COLOURS
    spec = choices(
        choice("test", tests, tests[0], "Test set"),
        choice("metric", metrics, found["monitor"], "Metric"),
    ) | {
        "mark": {"type": "point", "filled": True, "size": 90},
        "encoding": {
            "x": number(
                "seconds",
                "seconds of a run (logarithmic)",
                scale={"type": "log"},
                axis={"grid": False},
            ),
            "y": number("mean", "mean over users and seeds"),
            "color": name("method", "method") if few else name("backbone", "backbone"),
            "shape": name("backbone", "backbone"),
            "tooltip": tooltip(
                method="method", backbone="backbone", seconds="seconds", mean="mean"
            ),
        },
    }
    return Section(
        title="What they cost",
        blocks=[
            Chart(
                title="Seconds against quality",
                spec=spec,
                rows=points,
                note="Training and validation until it stopped, mean over seeds, on the machine "
                "of the comparison.",
            ),
            Table(
                title="Time and epochs",
                columns=["method", "backbone", "seconds", "epochs", "best epoch", "s/epoch"],
                rows=rows,
                note="Means over seeds.",
            ),
        ],
    )


def _measured(found: Found) -> Section:
    rows = [[key.replace("_", " "), value] for key, value in found["definitions"].items()]
    rows += [[f"users of {test}", f"{n:,}"] for test, n in found["users"].items()]
    rows += [["seeds", ", ".join(map(str, found["seeds"]))], ["preset", found["preset"]]]
    rows += [[key, str(value)] for key, value in found["overrides"].items()]
    table = Table(title="Definitions and settings", columns=["what", "how"], rows=rows)
    return Section(title="How it was measured", blocks=[table])


def _command(found: Found, folder: Path, path: str | None) -> str:
    words = ["contrarec", "compare", path or found["data"]]
    words += ["--methods", ",".join(found["methods"]), "--backbones", ",".join(found["backbones"])]
    words += ["--seeds", "".join(f"{seed}," for seed in found["seeds"])]
    words += ["--preset", found["preset"]] if found["preset"] else []
    for key, value in found["overrides"].items():
        words += ["--set", to_override(key, value)]
    return shlex.join([*words, "--out", str(folder)])
