"""Make the tables of `docs/after-training.md` from `docs/results/after-training/*.json`.

    python docs/results/make_after_training.py

No number is typed. `--check` writes nothing and fails if the page is not what the JSON files say.
"""

import argparse
import json
import shlex
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from contrarec.comparison.layout import format_mean, markdown_table
from contrarec.files import write_text

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "after-training.md"
START = "<!-- tables: made by docs/results/make_after_training.py -->"
END = "<!-- end of the tables -->"
METRICS = ("recall@20", "ndcg@20")
GROUPS = {"all": "all users", "new": "new users"}

Json = dict[str, Any]


def names(found: Json) -> dict[str, str]:
    """Return what each way is called, in the order of the table."""
    updates = [way for way in found["runs"][0]["metrics"] if way.startswith("update ")]
    return {
        "popularity": "popularity",
        "base": "new users folded in",
        **{way: f"updated, {way.removeprefix('update ')} epochs" for way in updates},
        "full": "trained on everything",
    }


def table(found: Json) -> str:
    """Return a row a way: means and standard deviations over seeds, processor time, epochs."""
    lines = []
    for way, name in names(found).items():
        line = {"model": name}
        for group, title in GROUPS.items():
            for metric in METRICS:
                values = [run["metrics"][way][group][metric] for run in found["runs"]]
                spread = stdev(values) if len(values) > 1 else None
                line[f"{title}: {metric}"] = format_mean(mean(values), spread)
        costs = [run["cost"][way] for run in found["runs"] if way in run["cost"]]
        trained = bool(costs) and way != "base"
        seconds = mean(cost["cpu_seconds"] for cost in costs) if trained else 0.0
        line["processor time"] = f"{seconds:.1f} s" if trained else "–"
        lines.append(line)
    return markdown_table(lines)


def section(found: Json) -> str:
    """Return what was done, and the table."""
    runs = found["runs"]
    users = {group: [run["users"][group] for run in runs] for group in GROUPS}
    later = mean(run["n_later"] for run in runs) / found["n_train"]
    return "\n\n".join(
        [
            f"### {found['data']}, {found['backbone']}",
            f"```\n{command(found)}\n```",
            f"{len(runs)} seeds, {found['loss']}. Of the training interactions {later:.0%} come "
            f"later: all those of {found['users']:.0%} of the users and {found['rows']:.0%} of the "
            f"others'. Test set `ood`, {users['all'][0]} users, of whom "
            f"{min(users['new'])} to {max(users['new'])} are new. Mean ± standard deviation over "
            "seeds of the mean over users.",
            table(found),
        ]
    )


def command(found: Json) -> str:
    """Return the command that measured it."""
    epochs = [way.split()[1] for way in names(found) if way.startswith("update ")]
    words = ["python", "docs/results/after_training.py", f"data/{found['data']}"]
    words += ["--backbones", found["backbone"], "--users", str(found["users"])]
    words += ["--rows", str(found["rows"]), "--seeds", str(len(found["runs"]))]
    words += ["--update-epochs", ",".join(epochs)]
    for name, value in found["overrides"].items():
        words += [f"--{name}", str(value)]
    return shlex.join(words)


def main(arguments: list[str] | None = None) -> None:
    """Read the JSON files, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    paths = sorted((HERE / "after-training").glob("*.json"))
    made = [section(json.loads(path.read_text(encoding="utf-8"))) for path in paths]
    before = PAGE.read_text(encoding="utf-8")
    start, _, rest = before.partition(START)
    _, _, end = rest.partition(END)
    after = "\n\n".join([start + START, *made, END + end])
    if not options.check:
        write_text(PAGE, after)
    elif after != before:
        raise SystemExit(f"{PAGE} is not what the JSON files say; run make_after_training.py.")


if __name__ == "__main__":
    main()
