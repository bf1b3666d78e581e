"""Set two comparisons beside each other that differ in one setting: seed by seed, user by user.

    python docs/results/pair_runs.py data/coat runs/coat-float32 runs/coat-bfloat16

Writes `docs/results/pairs/<data>-<setting>.json`, of which `make_tables.py` makes a table. The
folders are those of two `contrarec compare` with the same methods, backbones and seeds; only one
`--set` may differ.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from contrarec import Dataset, runs
from contrarec.comparison.measure import RESAMPLES, Measured, measure
from contrarec.comparison.run import run_folder
from contrarec.evaluation.compare import holm, paired_test
from contrarec.files import write_text

HERE = Path(__file__).resolve().parent
SAME = ("data", "fingerprint", "preset", "methods", "backbones", "seeds", "headline", "users")

Json = dict[str, Any]


def pair(data: Dataset, folders: list[Path]) -> Json:
    """Test the second comparison against the first, for every backbone and method.

    Raises:
        ValueError: the two differ in more than one setting, or in none.
    """
    first, second = (
        json.loads((folder / "comparison.json").read_text(encoding="utf-8")) for folder in folders
    )
    settings = [{name: one[name] for name in SAME} for one in (first, second)]
    a, b = first["overrides"], second["overrides"]
    changed = [name for name in sorted({*a, *b}) if a.get(name) != b.get(name)]
    if settings[0] != settings[1] or len(changed) != 1:
        raise ValueError(
            f"{folders[0]} and {folders[1]} must differ in one setting, got {changed}."
        )
    rows = []
    for backbone in first["backbones"]:
        for method in first["methods"]:
            both = [
                [
                    _measured(run_folder(folder, backbone, method, seed), data, first)
                    for seed in first["seeds"]
                ]
                for folder in folders
            ]
            rows += [
                {"backbone": backbone, "method": method, "test": test, "metric": metric}
                | contrast(both[0], both[1], (test, metric))
                for test, metric in both[0][0].per_user
            ]
    for test, metric in {(row["test"], row["metric"]) for row in rows}:
        family = [row for row in rows if (row["test"], row["metric"]) == (test, metric)]
        for row, p in zip(family, holm([row["p"] for row in family]), strict=True):
            row["p_holm"] = float(p)
    return settings[0] | {
        "setting": changed[0],
        "overrides": [a, b],
        "folders": [folder.name for folder in folders],
        "n_resamples": RESAMPLES,
        "rows": rows,
    }


def contrast(first: list[Measured], second: list[Measured], place: tuple[str, str]) -> Json:
    """Compare runs seed by seed.

    Args:
        first: one run a seed.
        second: those with the other setting, in the same order.
        place: test set and metric.

    Returns:
        `values`, the mean over users of each run, for both; `difference` of the second to the
        first, on per-user values averaged over seeds, with its interval and p-value; `changed`, the
        share of the users' values that are not the same.
    """
    users = [np.stack([run.per_user[place] for run in one]) for one in (first, second)]  # [S, n]
    outcome = paired_test(users[1].mean(0), users[0].mean(0), n_resamples=RESAMPLES)
    return {
        "values": [one.mean(1).tolist() for one in users],
        "difference": outcome.difference,
        "low": outcome.low,
        "high": outcome.high,
        "p": outcome.p_value,
        "changed": float((users[0] != users[1]).mean()),
    }


def _measured(folder: Path, data: Dataset, comparison: Json) -> Measured:
    settings, _ = runs.read_settings(folder)
    return measure(folder, data, settings.training.ks, tuple(comparison["headline"]), "cpu")


def main(arguments: list[str] | None = None) -> None:
    """Read two folders, write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", help="the data set that both are about")
    parser.add_argument("folders", nargs=2, type=Path, metavar="FOLDER")
    options = parser.parse_args(arguments)
    found = pair(Dataset.load(options.data), options.folders)
    text = json.dumps(found, indent=1, ensure_ascii=False)
    write_text(HERE / "pairs" / f"{found['data']}-{found['setting']}.json", text + "\n")


if __name__ == "__main__":
    main()
