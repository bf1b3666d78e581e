"""The examples and the README's Python, run as a reader would."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import contrarec as cr
from contrarec.cli import main
from contrarec.comparison import compare
from contrarec.errors import ConfigError
from contrarec.tuning import search_space

ROOT = Path(__file__).resolve().parents[2]


def test_two_tower_example_learns() -> None:
    command = [sys.executable, str(ROOT / "examples" / "two_tower.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    before, after = (float(value) for value in re.findall(r"0?\.\d{3,4}", done.stdout)[:2])
    assert after > before + 0.05, done.stdout


def test_a_loss_of_ones_own_learns() -> None:
    command = [sys.executable, str(ROOT / "examples" / "own_loss.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    before, after = (float(value) for value in re.findall(r"0?\.\d{3,4}", done.stdout)[:2])
    assert after > before + 0.1, done.stdout


def test_a_loss_of_ones_own_takes_part_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    name = "own_loss:HardestHinge"
    assert {"training.lr", "training.l2"} == set(search_space(name))
    data = cr.synthetic.synthesize(
        cr.synthetic.SyntheticConfig(n_users=60, n_items=40, n_preferred=10), seed=0
    ).dataset
    small = {"epochs": 2, "eval_every": 1, "dim": 8, f"{name}.margin": 0.7}
    compared = compare(data, ["bpr", name], seeds=[0], out=tmp_path, overrides=small)
    assert [row.method for row in compared.rows] == ["bpr", name]
    run = cr.Recommender.load(tmp_path / "mf-own_loss_HardestHinge-0")
    assert run.settings.loss.margin == 0.7
    with pytest.raises(ConfigError, match="`margin` must be positive, got -1"):
        cr.Recommender("mf", name, margin=-1.0)


def test_the_page_on_losses_shows_the_example_itself() -> None:
    page = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    assert '```python\n--8<-- "examples/own_loss.py"\n```' in page
    sys.path.insert(0, str(ROOT / "docs"))
    hooks = importlib.import_module("hooks")
    assert "def hardest_hinge(" in hooks.on_page_markdown(page)


def test_the_page_on_features_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
    world: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "features.md", "exec"), world)
    assert capsys.readouterr().out.startswith("40 48\n")
    rec = world["rec"]
    for table in (rec.recommend(["u0", "u1"], k=5), rec.fold_in([["i40"], ["i41"]], k=5)):
        for (user,), rows in table.group_by("user_id"):
            tastes = [int(item[1:]) % 4 for item in rows["item_id"]]
            assert tastes.count(int(str(user).removeprefix("u"))) >= 4
    assert {"i40", "i44"} & set(rec.recommend(["u0"], k=5)["item_id"])

    world["data"].split(tests={"id": cr.splits.Random(0.1)}).save("parts")
    commands = re.findall(r"^contrarec (.*)$", page, re.MULTILINE)
    assert len(commands) == 4
    for line in commands:
        assert main(shlex.split(line)) == 0, line
    assert Path("compared", "alpharec-bpr-0", "result.json").exists()


def test_the_readme_on_ones_own_data(tmp_path, monkeypatch, capsys) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"user_id": f"u{user}", "item_id": f"i{item}"}
        for user in range(60)
        for item in rng.choice(np.arange(user % 2, 40, 2), 10, replace=False)
    ]
    monkeypatch.chdir(tmp_path)
    pl.DataFrame(rows).write_csv("log.csv")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    exec(compile(blocks[0], "README.md", "exec"), {})
    shown = capsys.readouterr().out
    assert "recall@20" in shown
    assert "u42" in shown
    batch = {
        "cr": cr, "U": 5, "I": 9, "pos": torch.zeros(3), "neg": torch.zeros(3, 4),
        "users": torch.tensor([0, 1, 4]), "neg_items": torch.randint(0, 9, (3, 4)),
    }  # fmt: skip
    batch["pos"].requires_grad_()
    exec(compile(blocks[1], "README.md", "exec"), batch)
    assert batch["pos"].grad is not None
