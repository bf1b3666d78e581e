"""Make the tables of `docs/results/zoo.md`: every method, tuned alike, on each data set.

They come from the files of `docs/results/zoo/`: `NAME.json` from a comparison, `NAME.toml` the
preset that it used, from one or more searches.

    python docs/results/make_zoo.py --join coat=runs/tuned/preset.toml
    python docs/results/make_zoo.py --add coat=runs/compare-coat/comparison.json  # beside its runs
    python docs/results/make_zoo.py

`--join`, given several times for one name, puts the rows of searches on the same data into one
preset. `--check` writes nothing and fails if the page is not what the files say.
"""

import argparse
import json
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from make_tables import command, page  # the script beside this one

from contrarec.audit.ablation import kept_kl
from contrarec.comparison.layout import format_difference, format_mean, markdown_table
from contrarec.comparison.run import run_folder
from contrarec.config import dumps_toml
from contrarec.files import write_text

HERE = Path(__file__).resolve().parent
ZOO, PAGE = HERE / "zoo", HERE / "zoo.md"
METRICS = ("recall@20", "ndcg@20")
OURS = ("advinfonce", "advinfonce-mlp", "advinfonce-closed", "advinfonce-budget")

Json = dict[str, Any]


def joined(presets: Sequence[Json]) -> Json:
    """Put the rows of several presets into one; each must be of the same data and code.

    Raises:
        SystemExit: they are not, or two have a row for the same method and backbone.
    """
    first = presets[0]
    for preset in presets[1:]:
        if preset["tuned"] != first["tuned"]:
            raise SystemExit(f"not of one kind: {preset['tuned']} and {first['tuned']}")
    rows = [row for preset in presets for row in preset["row"]]
    places = [(row["for_backbone"], row["for_loss"]) for row in rows]
    twice = sorted({place for place in places if places.count(place) > 1})
    if twice:
        raise SystemExit(f"searched twice: {twice}")
    return {
        "source": "\n".join(
            source for preset in presets for source in preset["source"].split("\n")
        ),
        "backbones": sorted({name for preset in presets for name in preset["backbones"]}),
        "tuned": first["tuned"],
        "row": rows,
    }


def trimmed(comparison: Json) -> Json:
    """Keep what the tables need: two metrics, and the contrasts to the best."""
    rows = [
        {key: row[key] for key in ("backbone", "method", "seconds_per_epoch", "runs", "kl")}
        | {
            "metrics": {
                test: {name: metrics[name] for name in METRICS}
                for test, metrics in row["metrics"].items()
            }
        }
        for row in comparison["rows"]
    ]
    best = {_place(found): found["best"] for found in comparison["leaders"]}
    contrasts = [c for c in comparison["contrasts"] if best.get(_place(c)) == c["against"]]
    return comparison | {"rows": rows, "contrasts": contrasts}


def with_kl(comparison: Json, folder: Path) -> Json:
    """Add to each row how far the weights of its negatives are from uniform, from the runs."""
    rows = []
    for row in comparison["rows"]:
        place = folder, row["backbone"], row["method"]
        rows.append(row | {"kl": kept_kl([run_folder(*place, n) for n in comparison["seeds"]])})
    return comparison | {"rows": rows}


def method_lines(comparison: Json, preset: Json, test: str, backbone: str) -> list[dict[str, str]]:
    """Return a line for each method on a backbone and each baseline, the best NDCG first."""
    leaders = {_place(found): found for found in comparison["leaders"]}
    contrasts = {(*_place(c), c["method"]): c for c in comparison["contrasts"]}
    tuned = {(row["for_backbone"], row["for_loss"]): row for row in preset["row"]}
    rows = [row for row in comparison["rows"] if row["backbone"] in (backbone, "none")]
    lines = []
    for row in sorted(rows, key=lambda row: -row["metrics"][test][METRICS[1]]["mean"]):
        found = tuned.get((row["backbone"], row["method"]), {})
        line = {"method": row["method"]}
        for metric in METRICS:
            place = (backbone, test, metric)
            values = row["metrics"][test][metric]
            text = format_mean(values["mean"], values["sd"])
            line[metric] = f"**{text}**" if row["method"] in leaders[place]["methods"] else text
            contrast = contrasts.get((*place, row["method"]))
            line[f"Δ {metric}"] = "the best" if contrast is None else _difference(contrast)
        valid = found.get("tuned", {}).get("valid")
        line["valid"] = "" if valid is None else format_mean(valid, None)
        line["settings"] = _settings(found, comparison["overrides"])
        lines.append(line)
    return lines


def verdicts(comparison: Json) -> Iterator[str]:
    """Say who is best, who else is not beaten, and where the four forms of AdvInfoNCE are."""
    for found in comparison["leaders"]:
        others = [f"`{name}`" for name in found["methods"] if name != found["best"]]
        among = [f"`{name}`" for name in OURS if name in found["methods"]]
        run = {row["method"] for row in comparison["rows"] if row["backbone"] == found["backbone"]}
        beaten = [f"`{name}`" for name in OURS if name in run and name not in found["methods"]]
        yield (
            f"- `{found['test']}`, {found['backbone']}, {found['metric']}: best is "
            f"`{found['best']}`; beaten by none: {', '.join(others) or 'no other'}. AdvInfoNCE: "
            + (f"among them {', '.join(among)}; " if among else "")
            + (f"beaten {', '.join(beaten)}." if beaten else "none of its forms is beaten.")
        )


def spreads(comparison: Json) -> Iterator[str]:
    """Say how far each form of AdvInfoNCE weighs its negatives from alike."""
    for backbone in dict.fromkeys(row["backbone"] for row in comparison["rows"]):
        found = [
            f"`{row['method']}` {row['kl']:.1e}"
            for row in comparison["rows"]
            if row["backbone"] == backbone and row["method"] in OURS
        ]
        if found:
            yield (
                f"- Weights of the negatives, {backbone}: KL to uniform at the kept epoch, in "
                f"nats, mean over rows and seeds: {', '.join(found)}. At 0 the loss is InfoNCE, "
                "the negatives' sum times `k_neg`."
            )


def section(name: str, comparison: Json, preset: Json) -> str:
    """Return everything about one comparison."""
    named = [row["backbone"] for row in comparison["rows"] if row["backbone"] != "none"]
    budget = sorted({row["tuned"]["trials"] for row in preset["row"] if row["tuned"]["trials"] > 1})
    single = any(row["tuned"]["trials"] == 1 for row in preset["row"])
    pruned = sum(row["tuned"]["pruned"] for row in preset["row"])
    hours = sum(row["tuned"]["seconds"] for row in preset["row"]) / 3600
    versions = ", ".join(f"{key} {value}" for key, value in preset["tuned"]["versions"].items())
    parts = [
        f"## {name}",
        f"```\n{preset['source']}\n{command(comparison)}\n```",
        f"{len(preset['row'])} searches of {' or '.join(map(str, budget))} trials"
        f"{' (one where there is nothing to search)' if single else ''}, {pruned} trials given up "
        f"early, {hours:.1f} hours of training in all; {len(comparison['seeds'])} seeds. "
        f"{versions}.",
        "\n".join([*verdicts(comparison), *spreads(comparison)]),
    ]
    for test, n_users in comparison["users"].items():
        for backbone in dict.fromkeys(named):
            parts += [
                f"### {name}: `{test}`, {backbone}, {n_users} users",
                markdown_table(method_lines(comparison, preset, test, backbone)),
            ]
    return "\n\n".join(parts)


def tables() -> str:
    """Return everything between the two marks of the page."""
    paths = sorted(ZOO.glob("*.json"))
    if not paths:
        return "No comparison has been added yet."
    parts = []
    for path in paths:
        comparison = json.loads(path.read_text(encoding="utf-8"))
        preset = tomllib.loads(path.with_suffix(".toml").read_text(encoding="utf-8"))
        parts.append(section(path.stem, comparison, preset))
    definitions = comparison["definitions"]
    return "\n\n".join(
        [
            f"Test sets: {definitions['values']}. Bold: {definitions['leaders']}; that p is "
            "corrected over all that is compared with the method, the one beside Δ over all that "
            "is compared with the best, so bold and a p below .05 may meet. Δ: to the best "
            f"method of the column, {definitions['difference'].partition(', ')[2]}; in brackets "
            f"{definitions['interval']}; p {definitions['p']}. Valid: "
            f"{preset['tuned']['monitor']} on the validation set of the winning trial.",
            *parts,
        ]
    )


def _place(found: Json) -> tuple[str, str, str]:
    return found["backbone"], found["test"], found["metric"]


def _difference(contrast: Json) -> str:
    p = contrast["p_holm"]
    text = format_difference(contrast["difference"], contrast["low"], contrast["high"])
    return f"{text} {'p < .001' if p < 0.001 else f'p {p:.3f}'.replace('0.', '.', 1)}"


def _settings(row: Json, of_all: Json) -> str:
    values = {
        key: value
        for part in ("loss", "training", "backbone")
        for key, value in row.get(part, {}).items()
        if key not in of_all
    }
    return ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in values.items()
    )


def main(arguments: list[str] | None = None) -> None:
    """Take in what is given, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--join", metavar="NAME=PRESET", action="append", default=[])
    parser.add_argument("--add", metavar="NAME=FILE", action="append", default=[])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    ZOO.mkdir(exist_ok=True)
    given: dict[str, list[Json]] = {}
    for word in options.join:
        name, _, path = word.partition("=")
        given.setdefault(name, []).append(tomllib.loads(Path(path).read_text(encoding="utf-8")))
    for name, presets in given.items():
        write_text(ZOO / f"{name}.toml", dumps_toml(joined(presets)))
    for word in options.add:
        name, _, path = word.partition("=")
        whole = json.loads(Path(path).read_text(encoding="utf-8"))
        found = trimmed(with_kl(whole, Path(path).parent))
        write_text(ZOO / f"{name}.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    before = PAGE.read_text(encoding="utf-8")
    after = page(before, tables())
    if options.check and after != before:
        raise SystemExit(f"{PAGE} is not what the files say; run make_zoo.py.")
    if not options.check:
        write_text(PAGE, after)


if __name__ == "__main__":
    main()
