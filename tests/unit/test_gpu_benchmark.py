"""The benchmarks of the GPU say so where there is none."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


def test_without_a_gpu_one_line_says_that_nothing_was_measured():
    code = f"""if True:
        import runpy, torch
        torch.cuda.is_available = lambda: False
        names = runpy.run_path({str(SCRIPT)!r}, run_name="__main__")
        assert list(names["rows"]()) == []
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "GPU: not measured, torch finds no CUDA device on this machine.\n"
