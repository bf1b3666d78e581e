"""In CI nothing is skipped without being named here: a skipped test must not hide a gap.

A file `conftest.py` imports the hooks.
"""

import os
import sys
from collections.abc import Generator
from typing import TypeVar

import pytest

MAY_BE_SKIPPED = ("RecBole", "integrations/recbole.py", "TorchRec")
"""Words of a reason that may stand: RecBole's own packages exclude ours, TorchRec's replace torch.
"""

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into one that failed."""
    return _failed_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn a skipped file into one that cannot be read."""
    return _failed_if_skipped((yield))


def _failed_if_skipped(report: Report) -> Report:
    strict = os.environ.get("CI") == "true" and sys.platform == "linux"
    if not strict or not report.skipped or hasattr(report, "wasxfail"):
        return report
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not any(words in reason for words in MAY_BE_SKIPPED):
        report.outcome = "failed"
        report.longrepr = f"{reason}\nWith CI=true a skipped test is one that fails."
    return report
