"""The page of analyses: its tables are what the JSON files say, and the page is up to date."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def made(tmp_path: Path) -> ModuleType:
    """The script, working in a folder of its own."""
    spec = importlib.util.spec_from_file_location("make_analyses", FOLDER / "make_analyses.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.HERE = tmp_path
    (tmp_path / "results" / "false-negatives").mkdir(parents=True)
    return module


def interval(mean: float | None, width: float = 0.01) -> dict[str, float | None]:
    if mean is None:
        return dict.fromkeys(("mean", "low", "high"))
    return {"mean": mean, "low": mean - width, "high": mean + width}


def output(auc: float = 0.4, lift: float | None = -0.05) -> dict[str, Any]:
    def detector(value: float) -> dict[str, Any]:
        return {"auc": interval(value), "rate": interval(0.1), "lift": interval(lift),
                "below_zero": 0.6}  # fmt: skip

    contrast = {"difference": auc - 0.5, "low": auc - 0.52, "high": auc - 0.48, "p": 0.01}
    state = {
        "users": 7, "users_eligible": 7, "pairs": 70, "false_negatives": 9, "kl": 0.0441,
        "base_rate": interval(0.15),
        "detectors": {"adversary": detector(auc), "closed_form": detector(0.3)},
        "contrasts": {
            "chance": contrast, "closed_form": contrast | {"low": -0.2, "high": 0.2},
        },
    }  # fmt: skip
    return {
        "data": "toy", "backbone": "mf", "loss": "advinfonce", "seed": 3, "best_epoch": 20,
        "epochs": 40, "stopped": "patience", "truth": "the positives of ood", "state": state,
        "settings": {"loss": {"direction": "max"}, "training": {"lr": 1}, "backbone": {}},
        "trace": [
            {"epoch": n, "kl": n / 100, "detectors": {
                "adversary": detector(0.5 - n / 100), "closed_form": detector(0.4)}}
            for n in range(11)
        ],
        "definitions": {"auc": "A", "interval": "I", "kl": "K", "rate": "R"},
        "notes": ["n"],
    }  # fmt: skip


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.split("\n")]


def test_the_page_is_made_of_the_files_alone(made: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_text(json.dumps(output()), encoding="utf-8")
    page = tmp_path / "analyses.md"
    page.write_text(f"Before.\n\n{made.START}\nstale\n{made.END}\n\nAfter.\n", encoding="utf-8")
    made.main(["--add", f"toy-mf={file}", "--command", "contrarec analyse it"])
    text = page.read_text(encoding="utf-8")
    assert text.startswith("Before.\n")
    assert text.endswith("After.\n")
    assert "stale" not in text
    assert "contrarec analyse it" in text
    assert "Worse than chance: AUC .400 [.390, .410]." in text
    rows = cells(text)
    assert ["toy-mf", ".0441", ".400 [.390, .410]", ".300 [.290, .310]"] in rows
    # −.1 with [−.12, −.08] leaves out zero, the other interval does not
    assert ["toy-mf", "**−.1000 [−.1200, −.0800]**", "−.1000 [−.2000, +.2000]"] in rows
    share = ["toy-mf", "7", "9", ".1500 [.1400, .1600]", ".1000 [.0900, .1100]"]
    assert [*share, "−.0500 [−.0600, −.0400]", ".600"] in rows
    # of eleven evaluations the first, 2.5 rounded to even, the middle, 7.5 likewise, the last
    moments = [row[1] for row in rows if len(row) == 5 and row[0] == "toy-mf"]
    assert moments == ["0", "2", "5", "8", "10"]
    kept = json.loads((tmp_path / "results/false-negatives/toy-mf.json").read_text())
    assert kept["command"] == "contrarec analyse it"
    assert set(kept["trace"][0]) == {"epoch", "kl", "auc"}
    made.main(["--check"])
    page.write_text(text.replace(".0441", ".0440"), encoding="utf-8")
    with pytest.raises(SystemExit, match="not what the JSON files say"):
        made.main(["--check"])


def test_no_delta_below_zero(made: ModuleType) -> None:
    result = made.trimmed(output(lift=None), "")
    assert "no delta below 0" in made.rates_table({"x": result})


def test_the_committed_page_is_up_to_date(made: ModuleType) -> None:
    made.HERE = FOLDER
    made.main(["--check"])


def test_the_committed_results_say_how_they_were_made() -> None:
    files = sorted((FOLDER / "results" / "false-negatives").glob("*.json"))
    assert files
    for file in files:
        found = json.loads(file.read_text(encoding="utf-8"))
        assert found["command"].startswith("contrarec analyse false-negatives ")
        for detector in found["state"]["detectors"].values():
            area = detector["auc"]
            assert 0 <= area["low"] <= area["mean"] <= area["high"] <= 1
