"""Ctrl-C of the process that waits for workers: they are asked to save, and waited for."""

import os
import signal
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from contrarec.distributed.launch import _in_background, _wait_for


def press(times: int) -> None:
    for n in range(times):
        threading.Timer(0.1 + 0.3 * n, os.kill, (os.getpid(), signal.SIGINT)).start()


def test_workers_are_asked_to_stop_and_waited_for(tmp_path: Path) -> None:
    stop = tmp_path / "stop"

    def work() -> None:
        while not stop.exists():
            time.sleep(0.01)

    press(1)
    _wait_for(_in_background(work), stop, grace=60)
    assert stop.exists()
    _wait_for(_in_background(lambda: None), tmp_path / "other", grace=60)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(("presses", "grace"), [(2, 60.0), (1, 0.3)])
def test_workers_that_do_not_save_are_not_waited_for(
    tmp_path: Path, presses: int, grace: float
) -> None:
    never, started = Future[Any](), time.monotonic()
    press(presses)
    with pytest.raises(KeyboardInterrupt):
        _wait_for(never, tmp_path / "stop", grace)
    assert (tmp_path / "stop").exists()
    assert time.monotonic() - started < 30


def test_an_error_of_the_workers_is_raised(tmp_path: Path) -> None:
    def fail() -> None:
        raise ValueError("no room")

    with pytest.raises(ValueError, match="no room"):
        _wait_for(_in_background(fail), tmp_path / "stop", grace=60)
