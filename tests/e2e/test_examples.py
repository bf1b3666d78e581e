"""The examples and the README's Python, run as a reader would."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import torch

import contrarec as cr

ROOT = Path(__file__).resolve().parents[2]


def test_two_tower_example_learns() -> None:
    command = [sys.executable, str(ROOT / "examples" / "two_tower.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    before, after = (float(value) for value in re.findall(r"0?\.\d{3,4}", done.stdout)[:2])
    assert after > before + 0.05, done.stdout


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
