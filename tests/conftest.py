"""What several test files need."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from browser import _browser, browser_page  # noqa: F401 (fixtures)

# Without a GPU the Triton kernels run in Triton's interpreter, on CPU tensors. Triton reads this
# when it is imported, which torch does at its own time.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

from contrarec.kernels.dispatch import set_threads
from postgres import pgvector_uri, postgres_uri  # noqa: F401 (fixtures)
from skips import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401 (hooks)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Run on one thread: the tests' problems are tiny, and waiting threads only get in the way."""
    set_threads(1)


@pytest.fixture(scope="session")
def data_dir() -> Callable[[str], Path]:
    """`data_dir(name)`: the folder of a real data set; without it the test is skipped."""

    def find(name: str) -> Path:
        base = Path(os.environ.get("CONTRAREC_DATA") or ROOT.parent / "shared" / "data")
        folder = base / name
        if folder.is_dir():
            return folder
        pytest.skip(f"real data set {name!r} is absent: no folder {folder} (set CONTRAREC_DATA)")

    return find


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    """Where the Triton kernels run: on a GPU, or on the CPU in Triton's interpreter."""
    if find_spec("triton") is None:
        pytest.skip("triton is not installed, so the kernels for GPUs are not tested")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="session")
def implicit() -> None:
    """Skip the test where the library behind the baseline `als` is not installed."""
    if find_spec("implicit") is None:
        pytest.skip("implicit is not installed, so the baseline `als` is not tested")
