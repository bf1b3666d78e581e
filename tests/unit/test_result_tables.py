"""The tables of real results: what they claim is worked out by hand, and the page is up to date."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "results"


@pytest.fixture
def tables(tmp_path: Path) -> ModuleType:
    """The script, working in a folder of its own."""
    spec = importlib.util.spec_from_file_location("make_tables", FOLDER / "make_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.HERE, module.ROOT = tmp_path, tmp_path / "root"
    module.ROOT.mkdir()
    return module


def row(method: str, values: list[float], epochs: list[int] | None = None) -> dict[str, Any]:
    epochs = epochs or [200] * len(values)
    metric = {"mean": sum(values) / len(values), "sd": 0.01, "values": values}
    metrics = {"ood": dict.fromkeys(("recall@20", "ndcg@20", "hit@20", "map@20"), metric)}
    runs = [{"seed": seed, "epochs": count} for seed, count in enumerate(epochs)]
    one = {"backbone": "mf", "method": method, "runs": runs, "metrics": metrics}
    return one | {"seconds_per_epoch": 0.5}


def reference(values: list[float], **more: Any) -> dict[str, Any]:
    runs = [
        {
            "seed": 101 + n,
            "epochs": 71 if n == 0 else 300,
            "recall@20": v,
            "ndcg@20": v,
            "hit@20": v,
        }
        for n, v in enumerate(values)
    ]
    return {"data": "toy", "backbone": "mf", "method": "infonce", "runs": runs} | more


def test_agreement_within_twice_the_combined_standard_error(tables: ModuleType) -> None:
    theirs = reference([0.25, 0.27, 0.26])
    # both standard deviations are .01: 2 √(.0001/3 + .0001/3) = .01633
    near = tables.agreement(row("infonce", [0.265, 0.275, 0.285]), theirs, "ood", "recall@20", None)
    assert near["allowed"] == pytest.approx(0.016330, abs=1e-6)
    assert near["difference"] == pytest.approx(0.015)
    assert near["agree"] is True
    far = tables.agreement(row("infonce", [0.27, 0.28, 0.29]), theirs, "ood", "recall@20", None)
    assert far["difference"] == pytest.approx(0.02)
    assert far["agree"] is False
    below = tables.agreement(row("infonce", [0.23, 0.24, 0.25]), theirs, "ood", "recall@20", None)
    assert below["agree"] is False


def test_more_seeds_count_with_their_number(tables: ModuleType) -> None:
    ours = row("infonce", [0.25, 0.27, 0.25, 0.27, 0.26])  # s² = .0004 / 4 = .0001
    found = tables.agreement(ours, reference([0.25, 0.27, 0.26]), "ood", "recall@20", None)
    assert found["allowed"] == pytest.approx(2 * (1e-4 / 5 + 1e-4 / 3) ** 0.5)


def test_a_tolerance_replaces_the_standard_error(tables: ModuleType) -> None:
    single = reference([0.25])
    ours = row("infonce", [0.255, 0.257])  # mean .256
    assert tables.agreement(ours, single, "ood", "recall@20", 0.0065)["agree"] is True
    assert tables.agreement(ours, single, "ood", "recall@20", 0.0055)["agree"] is False
    without = tables.agreement(ours, single, "ood", "recall@20", None)
    assert (without["agree"], without["allowed"]) == (None, None)


def test_what_stopped_too_early_is_left_out_on_both_sides(tables: ModuleType) -> None:
    theirs = reference([0.1, 0.27, 0.25], early_stop=100)  # the first one ran 71 epochs
    ours = row("infonce", [0.26, 0.12, 0.28], [200, 75, 150])
    found = tables.agreement(ours, theirs, "ood", "recall@20", None)
    assert (found["ours"], found["reference"]) == ([0.26, 0.28], [0.27, 0.25])
    assert found["difference"] == pytest.approx(0.01)
    none_left = row("infonce", [0.12], [75])
    assert tables.agreement(none_left, theirs, "ood", "recall@20", None)["agree"] is None


def comparison() -> dict[str, Any]:
    contrasts = [
        {
            "backbone": "mf", "method": method, "against": against, "test": "ood",
            "metric": metric, "difference": 0.02, "low": low, "high": 0.03, "p": 0.01,
            "p_holm": 0.02,
        }
        for metric in ("recall@20", "ndcg@20")
        for method, against, low in (
            ("advinfonce", "infonce", 0.01),
            ("infonce-kneg", "infonce", 0.01),
            ("advinfonce", "infonce-kneg", -0.01),
            ("infonce", "infonce-kneg", -0.01),
        )
    ]  # fmt: skip
    return {
        "data": "toy",
        "preset": "coat",
        "overrides": {"ks": [10, 20], "lr": 0.1},
        "methods": ["infonce", "advinfonce", "infonce-kneg"],
        "backbones": ["mf"],
        "seeds": [0, 1],
        "headline": ["recall@20", "ndcg@20"],
        "users": {"ood": 7},
        "rows": [
            row("infonce", [0.25, 0.27]),
            row("advinfonce", [0.27, 0.29]),
            row("infonce-kneg", [0.26, 0.28]),
        ],
        "contrasts": contrasts,
        "definitions": {"values": "V", "difference": "D", "interval": "I"},
    }


def test_the_page_is_made_of_the_files_alone(tables: ModuleType, tmp_path: Path) -> None:
    made = tmp_path / "comparison.out"
    made.write_text(json.dumps(comparison()), encoding="utf-8")
    about = {
        "source": "S", "test_set": "ood", "early_stop": "E", "tolerance": {},
        "rows": [reference([0.25, 0.27, 0.26])],
    }  # fmt: skip
    (tmp_path / "reference.json").write_text(json.dumps(about), encoding="utf-8")
    page = f"Before.\n\n{tables.START}\nstale\n{tables.END}\n\nAfter.\n"
    for folder in (tables.HERE, tables.ROOT):
        (folder / "README.md").write_text(page, encoding="utf-8")
    tables.ENOUGH_SEEDS = 2
    tables.main(["--add", str(made)])
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.startswith("Before.\n")
    assert text.endswith("After.\n")
    assert "stale" not in text
    assert (
        "contrarec compare data/toy --preset coat --methods infonce,advinfonce,infonce-kneg "
        "--backbones mf --seeds 2 --set ks=10,20 --set lr=0.1"
    ) in text
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.split("\n")]
    # 2 √(.0002/2 + .0001/3) = .0231
    ours = ["mf", "infonce", "recall@20", ".2600 ± .0141 (2)", ".2600 ± .0100 (3)", "+.0000"]
    assert [*ours, ".0231", "yes"] in cells
    # standard error over seeds √(.0002/2 + .0002/2) = .01414
    over_infonce = "**+.0200 [+.0100, +.0300]**, seeds ± .0283"
    over_kneg = "+.0200 [−.0100, +.0300], seeds ± .0283"
    assert ["toy", "mf", "ndcg@20", over_infonce, over_kneg, "not run"] in cells
    short = (tables.ROOT / "README.md").read_text(encoding="utf-8")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in short.split("\n")]
    assert ["toy", "mf", "infonce", ".2600 ± .0100", ".2600 ± .0100", "2"] in cells
    kept = json.loads((tmp_path / "toy.json").read_text(encoding="utf-8"))
    assert list(kept["rows"][0]["metrics"]["ood"]) == ["recall@20", "ndcg@20", "hit@20"]
    assert len(kept["contrasts"]) == 6
    tables.main(["--check"])
    (tmp_path / "README.md").write_text(text.replace(".0231", ".0999"), encoding="utf-8")
    with pytest.raises(SystemExit, match="not what the JSON files say"):
        tables.main(["--check"])


def test_the_committed_page_is_up_to_date(tables: ModuleType) -> None:
    tables.HERE, tables.ROOT = FOLDER, FOLDER.parents[1]
    tables.main(["--check"])


def test_the_reference_is_complete(tables: ModuleType) -> None:
    found = json.loads((FOLDER / "reference.json").read_text(encoding="utf-8"))
    pairs = [(row["data"], row["backbone"], row["method"]) for row in found["rows"]]
    assert len(set(pairs)) == len(pairs) == 8
    for entry in found["rows"]:
        assert len(entry["runs"]) == (3 if entry["data"] == "coat" else 1)
        assert all(0 < run[metric] < 1 for run in entry["runs"] for metric in tables.METRICS)
