"""contrarec within RecBole, whose packages need an environment of their own."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(
    os.environ.get("CONTRAREC_RECBOLE_PYTHON", ROOT / ".peers" / "recbole" / "bin" / "python")
)


@pytest.mark.skipif(
    not PYTHON.exists(), reason="no RecBole: python benchmarks/peers/install.py --only recbole"
)
def test_the_recbole_example_learns() -> None:
    command = [str(PYTHON), "-W", "ignore", str(ROOT / "examples" / "recbole_model.py")]
    own = {"PYTHONPATH": str(ROOT / "src"), "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    done = subprocess.run(
        command, env=os.environ | own, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    theirs, ours = (float(value) for value in re.findall(r"NDCG@20 (0\.\d+)", done.stdout))
    assert ours > 0.8 * theirs, done.stdout
