"""Make the tables of `docs/results/README.md` and of the project's README: no number is typed.

They come from the JSON files beside the former, and in `pairs/` (written by `pair_runs.py`).

    python docs/results/make_tables.py --add runs/compare-coat/comparison.json
    python docs/results/make_tables.py

`--add` keeps what the tables need of a `comparison.json` as `docs/results/<data>.json`; with a name
before it, `--add yahoo-r3-controls=FILE`, as `docs/results/yahoo-r3-controls.json`. What stands
outside the two marks of a page is left as it is. `--check` writes nothing and fails if a page is
not what the JSON files say.
"""

import argparse
import json
import math
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from contrarec.comparison.layout import decimal, format_difference, format_mean, markdown_table
from contrarec.files import write_text

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
START, END = "<!-- tables: made by docs/results/make_tables.py -->", "<!-- end of the tables -->"
METRICS = ("recall@20", "ndcg@20", "hit@20")
ENOUGH_SEEDS = 5  # to be set beside the reference
METHOD, CONTROLS = "advinfonce", ("infonce", "infonce-kneg", "advinfonce-closed")

Json = dict[str, Any]


def trimmed(comparison: Json) -> Json:
    """Keep what the tables need: three metrics, and the contrasts of the first and our method."""
    rows = [
        row
        | {
            "metrics": {
                test: {name: metrics[name] for name in METRICS}
                for test, metrics in row["metrics"].items()
            }
        }
        for row in comparison["rows"]
    ]
    first = comparison["methods"][0]
    contrasts = [
        contrast
        for contrast in comparison["contrasts"]
        if contrast["against"] == first or contrast["method"] == METHOD
    ]
    return comparison | {"rows": rows, "contrasts": contrasts}


def agreement(row: Json, reference: Json, test: str, metric: str, tolerance: float | None) -> Json:
    """Set our runs of one method beside the reference's.

    Args:
        row: of a comparison.
        reference: row of `reference.json`; runs of at most `early_stop` epochs are left out on
            both sides.
        test: the test set.
        metric: such as `recall@20`.
        tolerance: what the means may differ by; twice the combined standard error
            `√(s²/n + s_ref²/n_ref)` if None. No verdict without either.
    """
    early = reference.get("early_stop", 0)
    values = row["metrics"][test][metric]["values"]
    ours = [v for v, run in zip(values, row["runs"], strict=True) if run["epochs"] > early]
    theirs = [run[metric] for run in reference["runs"] if run["epochs"] > early]
    if tolerance is None and min(len(ours), len(theirs)) > 1:
        error = stdev(ours) ** 2 / len(ours) + stdev(theirs) ** 2 / len(theirs)
        tolerance = 2 * math.sqrt(error)
    difference = mean(ours) - mean(theirs) if ours else math.nan
    return {
        "ours": ours,
        "reference": theirs,
        "difference": difference,
        "allowed": tolerance,
        "agree": None if tolerance is None or not ours else abs(difference) <= tolerance,
    }


def seeds_error(one: Json, other: Json, test: str, metric: str) -> float | None:
    """Return the standard error, over seeds, of the difference between two rows' means."""
    parts = [row["metrics"][test][metric]["values"] for row in (one, other)]
    if min(map(len, parts)) < 2:
        return None
    return math.sqrt(sum(stdev(values) ** 2 / len(values) for values in parts))


def reference_table(comparison: Json, reference: Json) -> str:
    """Ours and the reference, side by side."""
    rows = {(row["backbone"], row["method"]): row for row in comparison["rows"]}
    tolerances = reference["tolerance"].get(comparison["data"])
    lines = []
    for theirs in reference["rows"]:
        ours = rows.get((theirs["backbone"], theirs["method"]))
        if theirs["data"] != comparison["data"] or ours is None:
            continue
        for metric in METRICS:
            # where the reference is a single run there is no standard error to judge by
            tolerance = tolerances.get(metric) if tolerances else None
            found = agreement(ours, theirs, reference["test_set"], metric, tolerance)
            verdict = {True: "yes", False: "**no**", None: "–"}[found["agree"]]
            lines.append(
                {
                    "backbone": theirs["backbone"],
                    "method": theirs["method"],
                    "metric": metric,
                    "ours": _sample(found["ours"], len(ours["runs"])),
                    "reference": _sample(found["reference"], len(theirs["runs"])),
                    "difference": decimal(found["difference"], "+"),
                    "allowed": "–" if found["allowed"] is None else decimal(found["allowed"]),
                    "agree": verdict,
                }
            )
    return markdown_table(lines) if lines else "The reference has no run on these data."


def methods_table(comparison: Json, test: str) -> str:
    """Every method of a comparison."""
    lines = []
    for row in comparison["rows"]:
        metrics = row["metrics"][test]
        line = {"backbone": row["backbone"], "method": row["method"]}
        line |= {name: format_mean(metrics[name]["mean"], metrics[name]["sd"]) for name in METRICS}
        line["epochs"] = f"{mean(run['epochs'] for run in row['runs']):.0f}"
        lines.append(line)
    return markdown_table(lines)


def gain_lines(comparison: Json, test: str) -> Iterator[dict[str, str]]:
    """What is left of AdvInfoNCE's gain over one control after another."""
    rows = {(row["backbone"], row["method"]): row for row in comparison["rows"]}
    for backbone in comparison["backbones"]:
        for metric in comparison["headline"]:
            line = {"data": comparison["name"], "backbone": backbone, "metric": metric}
            for control in CONTROLS:
                wanted = (backbone, METHOD, control, test, metric)
                names = ("backbone", "method", "against", "test", "metric")
                for contrast in comparison["contrasts"]:
                    if tuple(contrast[name] for name in names) == wanted:
                        break
                else:
                    line[f"over {control}"] = "not run"
                    continue
                error = seeds_error(rows[backbone, METHOD], rows[backbone, control], test, metric)
                low, high = contrast["low"], contrast["high"]
                text = format_difference(contrast["difference"], low, high)
                text = text if low <= 0 <= high else f"**{text}**"
                seeds = "" if error is None else f", seeds ± {decimal(2 * error)}"
                line[f"over {control}"] = text + seeds
            yield line


def pair_table(found: Json) -> str:
    """Two comparisons that differ in one setting."""
    setting = found["setting"]
    names = [str(overrides.get(setting, "default")) for overrides in found["overrides"]]
    lines = []
    for row in found["rows"]:
        seeds = [b - a for a, b in zip(*row["values"], strict=True)]
        line = {key: row[key] for key in ("backbone", "method", "test", "metric")}
        for name, values in zip(names, row["values"], strict=True):
            line[name] = format_mean(mean(values), stdev(values) if len(values) > 1 else None)
        line["difference"] = format_difference(row["difference"], row["low"], row["high"])
        line["p"] = decimal(row["p_holm"], digits=3)
        if len(seeds) > 1:
            line["over seeds"] = f"± {decimal(2 * stdev(seeds) / math.sqrt(len(seeds)))}"
        line["users changed"] = f"{row['changed']:.1%}"
        lines.append(line)
    commands = [
        f"{command(found | {'overrides': overrides})} --out runs/{folder}"
        for overrides, folder in zip(found["overrides"], found["folders"], strict=True)
    ]
    commands.append(
        f"python docs/results/pair_runs.py data/{found['data']} "
        + " ".join(f"runs/{folder}" for folder in found["folders"])
    )
    return "\n\n".join(
        [
            f"### {found['data']}: `{setting}`, {names[1]} against {names[0]}",
            "```\n" + "\n".join(commands) + "\n```",
            f"{len(found['seeds'])} seeds, the same on both sides, and "
            + ", ".join(f"{n} users of `{test}`" for test, n in found["users"].items())
            + ". Mean ± standard deviation over seeds; *difference*, with its 95 % interval "
            f"(bootstrap over users, {found['n_resamples']} resamples), on per-user values "
            "averaged over seeds; *p* from random sign flips, with Holm's correction over the rows "
            "of a test set and metric; *over seeds*, twice the standard error of the seeds' "
            "differences; *users changed*, the share of (user, seed) whose value is not the same.",
            markdown_table(lines),
        ]
    )


def tables(comparisons: list[Json], reference: Json, pairs: Sequence[Json] = ()) -> str:
    """Return everything between the two marks."""
    if not comparisons:
        return "No comparison has been added yet."
    test = reference["test_set"]
    parts = []
    for comparison in comparisons:
        name = comparison["name"]
        definitions = comparison["definitions"]
        parts += [
            f"## {name}",
            f"```\n{command(comparison)}\n```",
        ]
        if len(comparison["seeds"]) >= ENOUGH_SEEDS:
            table = reference_table(comparison, reference)
            parts += [f"### {name}: ours and the reference", table]
        parts += [
            f"### {name}: every method",
            f"Test set `{test}`, {comparison['users'][test]} users: {definitions['values']}.",
            methods_table(comparison, test),
        ]
    parts += [
        "## What remains of AdvInfoNCE's gain",
        f"AdvInfoNCE minus each control, {definitions['difference']}; in brackets the interval "
        f"({definitions['interval']}), bold where it leaves out zero. After it, twice the standard "
        "error of the difference over seeds.",
        markdown_table([line for found in comparisons for line in gain_lines(found, test)]),
        *(["## One setting changed", *map(pair_table, pairs)] if pairs else []),
        "## The reference",
        reference["source"],
        "*Allowed* is twice the combined standard error, or, where the reference is a single run, "
        "a tolerance set beforehand. Early stops: " + reference["early_stop"] + ".",
    ]
    return "\n\n".join(parts)


def short_table(comparisons: list[Json], test: str) -> str:
    """Return the table of the project's README: the controls, and AdvInfoNCE."""
    if not comparisons:
        return "No comparison has been added yet."
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for comparison in comparisons:
        for row in comparison["rows"]:
            key = (comparison["data"], row["backbone"], row["method"])
            if row["method"] not in (METHOD, *CONTROLS) or key in lines:
                continue
            line = dict(zip(("data", "backbone", "method"), key, strict=True))
            for name in METRICS[:2]:
                metric = row["metrics"][test][name]
                line[name] = format_mean(metric["mean"], metric["sd"])
            lines[key] = line | {"seeds": str(len(row["runs"]))}
    ordered = [lines[key] for key in sorted(lines, key=lambda key: key[:2])]
    return (
        "Test sets with unbiased exposure, published settings, mean ± standard deviation over "
        f"seeds of the mean over users.\n\n{markdown_table(ordered)}"
    )


def command(comparison: Json) -> str:
    """Return the command that makes a comparison."""
    seeds = comparison["seeds"]
    count = seeds == list(range(len(seeds)))
    words = ["contrarec", "compare", f"data/{comparison['data']}"]
    if comparison["preset"]:
        words += ["--preset", comparison["preset"]]
    words += ["--methods", ",".join(comparison["methods"])]
    words += ["--backbones", ",".join(comparison["backbones"])]
    words += ["--seeds", str(len(seeds)) if count else ",".join(map(str, seeds)) + ","]
    for key, value in comparison["overrides"].items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        words += ["--set", f"{key}={text}"]
    return shlex.join(words)


def page(text: str, made: str) -> str:
    """Put the tables between the marks of a page."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n\n{made}\n\n{END}{after}"


def _sample(values: list[float], total: int) -> str:
    if not values:
        return "all stopped too early"
    count = str(total) if len(values) == total else f"{len(values)} of {total}"
    return f"{format_mean(mean(values), stdev(values) if len(values) > 1 else None)} ({count})"


def main(arguments: list[str] | None = None) -> None:
    """Read the JSON files, write the pages."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--add", metavar="[NAME=]FILE", action="append", default=[])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    for given in options.add:
        name, _, path = given.rpartition("=")
        comparison = trimmed(json.loads(Path(path).read_text(encoding="utf-8")))
        text = json.dumps(comparison, indent=1, ensure_ascii=False)
        write_text(HERE / f"{name or comparison['data']}.json", text + "\n")
    reference = json.loads((HERE / "reference.json").read_text(encoding="utf-8"))
    found = sorted(HERE.glob("*.json"), key=lambda path: path.stem)
    found = [path for path in found if path.name != "reference.json"]
    comparisons = [
        json.loads(path.read_text(encoding="utf-8")) | {"name": path.stem} for path in found
    ]
    paths = sorted((HERE / "pairs").glob("*.json"))
    pairs = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    made = {
        HERE / "README.md": tables(comparisons, reference, pairs),
        ROOT / "README.md": short_table(comparisons, reference["test_set"]),
    }
    for path, text in made.items():
        before = path.read_text(encoding="utf-8")
        after = page(before, text)
        if not options.check:
            write_text(path, after)
        elif after != before:
            raise SystemExit(f"{path} is not what the JSON files say; run make_tables.py.")


if __name__ == "__main__":
    main()
