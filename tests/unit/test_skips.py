"""What becomes of skipped tests in CI."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
FILES = {
    "conftest.py": "from skips import pytest_make_collect_report, pytest_runtest_makereport",
    "test_file.py": "import pytest\npytest.skip('no cluster', allow_module_level=True)",
    "test_one.py": """
import pytest

@pytest.fixture
def thing():
    pytest.skip("no thing")

def test_fixture(thing): ...

def test_named():
    pytest.skip("no RecBole here")

@pytest.mark.xfail
def test_expected():
    raise AssertionError

def test_fine(): ...
""",
}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems lack what CI has")
@pytest.mark.parametrize(
    ("ci", "status", "outcome"),
    [
        ("false", 0, "1 passed, 3 skipped, 1 xfailed"),
        ("true", 1, "1 passed, 1 skipped, 1 xfailed, 2 errors"),
    ],
)
def test_a_skipped_test_fails_in_ci(tmp_path: Path, ci: str, status: int, outcome: str) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    own = {"CI": ci, "PYTHONPATH": str(TESTS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    options = ["-p", "no:cacheprovider", "-c", os.devnull, "--continue-on-collection-errors"]
    command = [sys.executable, "-m", "pytest", *options, "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(
        command, env=os.environ | own, capture_output=True, text=True, check=False
    )
    assert outcome in done.stdout, done.stdout
    assert done.returncode == status
    assert ("With CI=true a skipped test is one that fails" in done.stdout) == (ci == "true")
