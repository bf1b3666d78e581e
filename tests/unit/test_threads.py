"""One number of threads: torch's, which the compiled kernels follow and nothing else changes."""

import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from contrarec.errors import ConfigError
from contrarec.kernels import dispatch
from contrarec.kernels.dispatch import resolve, set_threads, usable_cores
from contrarec.kernels.topk import masked_top_k

numba = pytest.importorskip("numba")
MOST = numba.config.NUMBA_NUM_THREADS


def in_new_process(code: str, **variables: str) -> str:
    """Output of a fresh interpreter, in which no pool of threads has been started."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


FIRST_KERNEL = """
import torch
from contrarec.kernels.topk import masked_top_k
import numba
masked_top_k(torch.rand(4, 9), 2)
print(torch.get_num_threads(), numba.get_num_threads())
"""


def test_the_first_kernel_leaves_torch_as_it_was():
    # numba sets OpenMP's number for all to its own when its threads start.
    assert in_new_process(FIRST_KERNEL, OMP_NUM_THREADS="1") == "1 1"


READ_A_LARGE_LOG = """
import numpy as np, torch
from contrarec.data.rows import pack
n = 1_100_000
pairs = np.arange(n) % 50_000, np.arange(n) * 7919 % 40_000
pack(*pairs, 50_000, 40_000)
print(torch.get_num_threads())
"""


def test_reading_a_large_log_leaves_torch_as_it_was():
    # its kernels are the first, of a command that was told how many threads there are
    assert in_new_process(READ_A_LARGE_LOG, OMP_NUM_THREADS="1") == "1"


BUSY_THREADS = """
import os, time, torch
from contrarec.kernels.topk import masked_top_k
torch.set_num_threads(2)
def ticks():
    stats = {t: open(f"/proc/self/task/{t}/stat").read() for t in os.listdir("/proc/self/task")}
    return {t: sum(map(int, s.rpartition(")")[2].split()[11:13])) for t, s in stats.items()}
def busy(work):
    work()
    time.sleep(0.2)  # until threads have stopped waiting for more
    before, end = ticks(), time.perf_counter() + 1
    while time.perf_counter() < end:
        work()
    return {t for t, n in ticks().items() if n > before.get(t, 0) + 1}
x = torch.rand(2000, 2000)
print(len(busy(lambda: x.exp()) | busy(lambda: masked_top_k(x, 20))))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads threads from /proc")
def test_torch_and_the_kernels_share_their_threads():
    # On a pool of their own (as with workqueue) a third thread would be at work.
    assert in_new_process(BUSY_THREADS, NUMBA_NUM_THREADS="2") == "2"


def test_the_kernels_follow_torch():
    for n in (MOST, 1, MOST):
        torch.set_num_threads(n)
        masked_top_k(torch.rand(4, 9), 2)
        assert (torch.get_num_threads(), numba.get_num_threads()) == (n, n)


def test_they_follow_in_other_python_threads():
    # numba counts per Python thread, and starts with all cores in each.
    set_threads(1)
    seen = []

    def work():
        resolve("numba")
        seen.append((torch.get_num_threads(), numba.get_num_threads()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(1, 1)]


def test_set_threads():
    set_threads(MOST + 3)
    assert (torch.get_num_threads(), numba.get_num_threads()) == (MOST + 3, MOST)
    with pytest.raises(ConfigError, match="`threads` must be at least 1, got 0"):
        set_threads(0)
    code = (
        "import contrarec as cr; cr.set_threads(3); import polars; print(polars.thread_pool_size())"
    )
    assert in_new_process(code) == "3"


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, math.inf),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
    ],
)
def test_quota_of_a_container(tmp_path, monkeypatch, files, quota):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert dispatch._quota(tmp_path) == quota
    monkeypatch.setattr(dispatch, "_CGROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert usable_cores() == {math.inf: 8, 1.5: 2, 0.5: 1}[quota]


def test_cores_that_the_process_may_not_use_do_not_count(tmp_path, monkeypatch):
    monkeypatch.setattr(dispatch, "_CGROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert usable_cores() == 1


def test_the_default_is_within_the_usable_cores():
    code = """
import os
os.sched_getaffinity = lambda _: {0}  # as far as Python sees; torch counts for itself
import contrarec.kernels.dispatch, torch
print(torch.get_num_threads())
"""
    assert in_new_process(code, OMP_NUM_THREADS="2") == "1"
