"""Two comparisons that differ in one setting: the pairing by hand, and the table made of it."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest

from contrarec.comparison import compare
from contrarec.comparison.measure import Measured
from contrarec.data.dataset import Dataset

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "results"
PLACE = ("ood", "recall@20")


@pytest.fixture
def script() -> Callable[[str], ModuleType]:
    """`script(name)`: a module of `docs/results`."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def measured(*values: float) -> Measured:
    return Measured(result={}, means={}, per_user={PLACE: np.array(values)})


def test_seed_by_seed_and_user_by_user(script: Callable[[str], ModuleType]) -> None:
    first = [measured(0.0, 0.5, 1.0), measured(0.0, 0.5, 0.4)]
    second = [measured(0.3, 0.5, 1.0), measured(0.3, 0.8, 0.5)]
    found = script("pair_runs").contrast(first, second, PLACE)
    assert found["values"][0] == pytest.approx([0.5, 0.3])
    assert found["values"][1] == pytest.approx([0.6, 1.6 / 3])
    # averages over seeds: 0, .5, .7 and .3, .65, .75
    assert found["difference"] == pytest.approx(0.5 / 3)
    # one of 27 resamples holds the same user three times
    assert (found["low"], found["high"]) == pytest.approx((0.05, 0.3))
    assert found["p"] == 0.25  # of 8 patterns, those with one sign: 2
    assert found["changed"] == pytest.approx(4 / 6)


def test_two_comparisons(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = [(u, i) for u in range(24) for i in range(21) if u % 3 == i % 3]
    frame = pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row")
    part = rng.integers(4, size=len(frame))
    train, valid, test = (frame.filter(part % 3 == number) for number in range(3))
    data = Dataset.from_parts(train=train, valid=valid, tests={"ood": test}, name="toy")
    shared = {"epochs": 2, "batch_size": 64, "dim": 8, "n_neg": 4}
    folders = [tmp_path / name for name in ("float32", "bfloat16", "slow")]
    changes: list[dict[str, Any]] = [
        {"storage": "float32"}, {"storage": "bfloat16"}, {"storage": "float32", "lr": 1e-9},
    ]  # fmt: skip
    for folder, change in zip(folders, changes, strict=True):
        found = compare(
            data, ["infonce", "bpr"], ["mf"], [0, 1], out=folder, overrides=shared | change
        )
        found.save(folder)
    pair = script("pair_runs").pair
    found = pair(data, folders[:2])
    assert found["setting"] == "storage"
    assert [row["method"] for row in found["rows"]] == ["infonce"] * 2 + ["bpr"] * 2
    assert all(row["p"] <= row["p_holm"] <= 1 for row in found["rows"])
    lr = pair(data, [folders[0], folders[2]])
    assert (lr["setting"], lr["overrides"][1]["lr"]) == ("lr", 1e-9)
    assert max(row["changed"] for row in lr["rows"]) > 0
    with pytest.raises(ValueError, match=r"must differ in one setting, got \['lr', 'storage'\]"):
        pair(data, folders[1:])
    with pytest.raises(ValueError, match=r"must differ in one setting, got \[\]"):
        pair(data, [folders[0], folders[0]])


def test_the_table(script: Callable[[str], ModuleType]) -> None:
    row = {
        "backbone": "mf", "method": "bpr", "test": "ood", "metric": "recall@20",
        "values": [[0.25, 0.27, 0.26], [0.26, 0.28, 0.30]], "difference": 0.02, "low": 0.01,
        "high": 0.03, "p": 0.001, "p_holm": 0.004, "changed": 0.125,
    }  # fmt: skip
    found = {
        "data": "toy", "preset": "coat", "methods": ["bpr"], "backbones": ["mf"],
        "seeds": [0, 1, 2], "users": {"ood": 7}, "setting": "storage",
        "overrides": [{"storage": "float32"}, {"storage": "bfloat16"}],
        "folders": ["one", "two"], "n_resamples": 4000, "rows": [row],
    }  # fmt: skip
    text = script("make_tables").pair_table(found)
    assert "### toy: `storage`, bfloat16 against float32" in text
    assert (
        "contrarec compare data/toy --preset coat --methods bpr --backbones mf --seeds 3 "
        "--set storage=bfloat16 --out runs/two\n"
        "python docs/results/pair_runs.py data/toy runs/one runs/two\n"
    ) in text
    cells = [cell.strip() for cell in text.split("\n")[-1].split("|")[1:-1]]
    # the seeds differ by .01, .01 and .04: s = √3/100, 2 s / √3 = .02
    assert cells == [
        "mf", "bpr", "ood", "recall@20", ".2600 ± .0100", ".2800 ± .0200",
        "+.0200 [+.0100, +.0300]", ".004", "± .0200", "12.5%",
    ]  # fmt: skip
