"""The examples, run as a reader would."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import contrarec as cr
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
