"""How pytest-xdist deals tests out: a file to a process, and all that starts Ray to one of them.

A file `conftest.py` imports the hook. Two processes that start Ray at a time get into each other's
way. Files are taken as they are found: xdist's own order, those with few tests last, would leave
the longest ones, Ray's, for the end, when nothing is left for the other processes.
"""

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadFileScheduling

RAY = ("e2e/test_ray.py", "e2e/test_parquet_parts.py", "e2e/test_torchrec.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> "LoadFileScheduling | None":
    """Return the scheduler of `--dist loadfile`; the other ways are xdist's own."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduler(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return "ray" if file.endswith(RAY) else file

    config.option.loadscopereorder = False
    return Scheduler(config, log)
