"""The page on what comes after training holds what the files say; what is measured is sound."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest

from contrarec import Dataset

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "results"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_files_say() -> None:
    script("make_after_training").main(["--check"])


def test_a_changed_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = script("make_after_training")
    (tmp_path / "after-training").mkdir()
    for path in (FOLDER / "after-training").glob("*.json"):
        found = json.loads(path.read_text())
        found["runs"][0]["metrics"]["full"]["all"]["recall@20"] += 0.05
        (tmp_path / "after-training" / path.name).write_text(json.dumps(found))
    monkeypatch.setattr(module, "HERE", tmp_path)
    with pytest.raises(SystemExit, match="is not what the JSON files say"):
        module.main(["--check"])


def test_a_row_by_hand() -> None:
    def run(recall: float) -> dict[str, object]:
        values = {"recall@20": recall, "ndcg@20": 0.5}
        ways = ("popularity", "base", "update 1", "full")
        return {
            "cost": {way: {"cpu_seconds": 10 * recall} for way in ways[1:]},
            "metrics": {way: {"all": values, "new": values} for way in ways},
        }

    lines = script("make_after_training").table({"runs": [run(0.1), run(0.3)]}).splitlines()
    cells = [cell.strip() for cell in lines[4].split("|")[1:-1]]
    # mean .2, standard deviation √(.01 + .01) = .1414
    assert cells[:3] == ["updated, 1 epochs", ".2000 ± .1414", ".5000 ± .0000"]
    assert cells[-1] == "2.0 s"


def test_what_is_kept_back() -> None:
    rng = np.random.default_rng(0)
    pairs = np.argwhere(rng.random((80, 30)) < 0.3)
    frame = pl.DataFrame({"user": pairs[:, 0], "item": pairs[:, 1]})
    data = Dataset.from_parts(train=frame, valid=frame[:40], tests={"ood": frame[40:90]})
    earlier, later, new = script("after_training").parts(data, 0.2, 0.1, seed=1)
    first, more = (
        set(zip(part.users.take(part.rows), part.items.take(part.indices), strict=True))
        for part in (earlier.train, later.train)
    )
    assert first | more == set(map(tuple, pairs.tolist()))
    assert not first & more
    ids = data.users.ids.filter(pl.Series(new))
    assert not set(ids) & set(earlier.users.ids)  # the earlier model cannot know them
    assert 5 < len(ids) < 30
    others = [pair for pair in more if pair[0] not in set(ids)]
    assert 0.05 < len(others) / len([p for p in pairs.tolist() if p[0] not in set(ids)]) < 0.15
