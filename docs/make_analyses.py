"""Make the tables of `docs/analyses.md`: no number is typed.

They come from the JSON files in `docs/results/false-negatives/`, each of which is what
`contrarec analyse false-negatives … --json` printed, with the command that printed it.

    python docs/make_analyses.py --add coat-mf=FILE --command 'contrarec analyse …'
    python docs/make_analyses.py

`--add NAME=FILE` keeps what the tables need of the output in FILE. What stands outside the two
marks of the page is left as it is. `--check` writes nothing and fails if the page is not what the
JSON files say.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from contrarec.audit.false_negatives import verdict
from contrarec.comparison.layout import decimal, format_difference, markdown_table
from contrarec.files import write_text

HERE = Path(__file__).resolve().parent
START, END = "<!-- tables: made by docs/make_analyses.py -->", "<!-- end of the tables -->"
MOMENTS = 5
"""Rows of a table over training."""

Json = dict[str, Any]


def trimmed(result: Json, command: str) -> Json:
    """Keep what the tables need, and the command."""
    kept = ("data", "backbone", "loss", "seed", "best_epoch", "epochs", "stopped", "truth", "state")
    trace = [
        {
            "epoch": line["epoch"],
            "kl": line["kl"],
            "auc": {name: found["auc"] for name, found in line["detectors"].items()},
        }
        for line in result["trace"]
    ]
    settings = {"loss": result["settings"]["loss"], "training": result["settings"]["training"]}
    return {
        "command": command,
        **{name: result[name] for name in kept},
        "settings": settings,
        "trace": trace,
        "definitions": result["definitions"],
    }


def detectors_table(results: dict[str, Json]) -> str:
    """The AUC of every detector, a line per model."""
    lines = []
    for name, found in results.items():
        state = found["state"]
        line = {"model": name, "KL": decimal(state["kl"])}
        line |= {
            detector.replace("_", " "): _interval(part["auc"])
            for detector, part in state["detectors"].items()
        }
        lines.append(line)
    return markdown_table(lines)


def contrasts_table(results: dict[str, Json]) -> str:
    """The adversary's AUC less each control's."""
    lines = []
    for name, found in results.items():
        line = {"model": name}
        for control, c in found["state"]["contrasts"].items():
            text = format_difference(c["difference"], c["low"], c["high"])
            bold = text if c["low"] <= 0 <= c["high"] else f"**{text}**"
            line[f"less {control.replace('_', ' ')}"] = bold
        lines.append(line)
    return markdown_table(lines)


def rates_table(results: dict[str, Json]) -> str:
    """False negatives among what the adversary judges false."""
    lines = []
    for name, found in results.items():
        state = found["state"]
        adversary = state["detectors"]["adversary"]
        lift, shown = adversary["lift"], "no delta below 0"
        if lift["mean"] is not None:
            shown = format_difference(lift["mean"], lift["low"], lift["high"])
        lines.append(
            {
                "model": name,
                "users": str(state["users"]),
                "false negatives": str(state["false_negatives"]),
                "of all candidates": _interval(state["base_rate"], 4),
                "where delta < 0": _interval(adversary["rate"], 4),
                "difference": shown,
                "share with delta < 0": decimal(adversary["below_zero"], digits=3),
            }
        )
    return markdown_table(lines)


def course_table(results: dict[str, Json]) -> str:
    """The adversary's AUC, and its KL, at some moments of each training."""
    lines = []
    for name, found in results.items():
        trace = found["trace"]
        places = {round(n * (len(trace) - 1) / (MOMENTS - 1)) for n in range(MOMENTS)}
        for place in sorted(places):
            line = trace[place]
            lines.append(
                {
                    "model": name,
                    "epoch": str(line["epoch"]),
                    "KL": decimal(line["kl"]),
                    "adversary": _interval(line["auc"]["adversary"]),
                    "closed form": _interval(line["auc"]["closed_form"]),
                }
            )
    return markdown_table(lines)


def tables(results: dict[str, Json]) -> str:
    """Return everything between the two marks."""
    if not results:
        return "No result has been added yet."
    definitions = next(iter(results.values()))["definitions"]
    commands = "\n".join(found["command"] for found in results.values())
    models = [
        f"- **{name}**: {found['backbone']} with {found['loss']} on {found['data']}, seed "
        f"{found['seed']}, {found['epochs']} epochs, weights of epoch {found['best_epoch']}; "
        f"direction `{found['settings']['loss']['direction']}`. False negatives: "
        f"{found['truth']}. {verdict(found['state'])}"
        for name, found in results.items()
    ]
    return "\n\n".join(
        [
            "### The answer, model by model",
            "\n".join(models),
            "### AUC of every detector",
            f"AUC: {definitions['auc']}. In brackets the interval: {definitions['interval']}. "
            f"KL: {definitions['kl']}.",
            detectors_table(results),
            "The adversary's AUC less that of chance and of each control; bold where the interval "
            "leaves out zero:",
            contrasts_table(results),
            "### What it judges false",
            f"Rate: {definitions['rate']}.",
            rates_table(results),
            "### Over training",
            "Before the first step, and at evaluations from there to the last:",
            course_table(results),
            "### The commands",
            f"```\n{commands}\n```",
        ]
    )


def page(text: str, made: str) -> str:
    """Put the tables between the marks of a page."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n\n{made}\n\n{END}{after}"


def _interval(found: Json, digits: int = 3) -> str:
    if found["mean"] is None:
        return "–"
    mean, low, high = (decimal(found[key], digits=digits) for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def main(arguments: list[str] | None = None) -> None:
    """Read the JSON files, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--add", metavar="NAME=FILE")
    parser.add_argument("--command", default="")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    folder = HERE / "results" / "false-negatives"
    if options.add:
        name, _, path = options.add.partition("=")
        kept = trimmed(json.loads(Path(path).read_text(encoding="utf-8")), options.command)
        text = json.dumps(kept, indent=1, ensure_ascii=False)
        write_text(folder / f"{name}.json", text + "\n")
    found = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
    }
    path = HERE / "analyses.md"
    before = path.read_text(encoding="utf-8")
    after = page(before, tables(found))
    if not options.check:
        write_text(path, after)
    elif after != before:
        raise SystemExit(f"{path} is not what the JSON files say; run make_analyses.py.")


if __name__ == "__main__":
    main()
