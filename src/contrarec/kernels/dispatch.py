"""Which twin of a kernel runs, and on how many threads."""

import functools
import logging
import math
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

import torch

from contrarec.errors import BackendError, ConfigError, unknown

Backend = Literal["auto", "reference", "numba", "triton"]
Twin = Literal["reference", "numba", "triton"]

# imported only where they are used; a Python too new for numba has the reference twins
HAS_NUMBA = find_spec("numba") is not None
HAS_TRITON = find_spec("triton") is not None

_CGROUPS = Path("/sys/fs/cgroup")


def resolve(backend: Backend, *tensors: torch.Tensor, gpu: bool = False) -> Twin:
    """Choose the twin for these tensors.

    `auto` takes numba where every tensor is on the CPU, triton where every one is on a CUDA device
    and the kernel has such a twin, and the reference where what it would take is not installed. A
    back end that was asked for by name is never replaced silently.

    Args:
        backend: what was asked for.
        tensors: what the kernel will work on.
        gpu: whether the kernel has a triton twin.

    Raises:
        ConfigError: `backend` is not a known name.
        BackendError: the back end asked for is not installed, the kernel has none for it, or a
            tensor is not where it runs.
    """
    if backend not in get_args(Backend):
        raise ConfigError(unknown("backend", str(backend), get_args(Backend)))
    if backend == "reference":
        return "reference"
    devices = {tensor.device.type for tensor in tensors}
    if backend == "auto":
        if devices <= {"cpu"}:
            return _compiled() if HAS_NUMBA else "reference"
        if gpu and devices == {"cuda"}:
            return "triton" if HAS_TRITON else _without_triton()
        return "reference"
    if not (HAS_NUMBA if backend == "numba" else HAS_TRITON):
        raise BackendError(
            f"backend {backend!r} was asked for and {backend} is not installed: "
            f"pip install {backend}"
        )
    if backend == "triton" and not gpu:
        raise BackendError("backend 'triton' was asked for and this kernel has none.")
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"  # then it takes CPU tensors, too
    if not devices <= (
        {"cuda", "cpu"} if backend == "triton" and interpreted else {_HOME[backend]}
    ):
        place = "the CPU" if backend == "numba" else "CUDA devices"
        raise BackendError(
            f"backend {backend!r} runs on {place}, got tensors on {', '.join(sorted(devices))}"
        )
    return _compiled() if backend == "numba" else backend


def _compiled() -> Literal["numba"]:
    _follow_torch()
    return "numba"


_HOME = {"numba": "cpu", "triton": "cuda"}


@functools.cache
def _without_triton() -> Literal["reference"]:
    logging.getLogger("contrarec").warning(
        "triton is not installed: on this GPU the plain torch kernels serve (pip install triton)"
    )
    return "reference"


def usable_cores() -> int:
    """Return how many cores this process may keep busy: those it may run on, within its quota.

    A container's quota (cgroup v1 or v2) is in CPU time; a part of a core counts as a core.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _quota(_CGROUPS))))


def set_threads(n: int) -> None:
    """Let torch, its BLAS and the compiled kernels use `n` threads: one pool, taking turns.

    The number is torch's, and the compiled kernels follow it at every call, in every Python thread.
    Left alone it is what torch chooses (`OMP_NUM_THREADS`, or all cores), at most `usable_cores()`.
    Polars fixes its number when it is imported: it follows if that is still to come. On a machine
    that runs other things, too, set `OMP_WAIT_POLICY=passive` before torch is imported, as the
    command line does: threads then sleep while they wait instead of spinning.

    Raises:
        ConfigError: `n` is smaller than 1.
    """
    if n < 1:
        raise ConfigError(f"`threads` must be at least 1, got {n}.")
    torch.set_num_threads(n)
    if "polars" not in sys.modules:
        os.environ["POLARS_MAX_THREADS"] = str(n)


def _follow_torch() -> None:
    import numba

    from contrarec.kernels.cpu.compile import MOST_THREADS

    n = torch.get_num_threads()
    numba.set_num_threads(min(n, MOST_THREADS))
    if torch.get_num_threads() != n:  # the first call starts numba's threads, and resets OpenMP's
        torch.set_num_threads(n)


def _quota(root: Path) -> float:
    """Return the cores that the control group of this process is given; infinity if unlimited."""
    try:
        limit, period = (root / "cpu.max").read_text().split()  # v2
    except (OSError, ValueError):
        try:
            limit, period = (
                (root / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
            )
        except OSError:
            return math.inf
    return int(limit) / int(period) if limit != "max" and int(limit) > 0 else math.inf


if torch.get_num_threads() > usable_cores():
    torch.set_num_threads(usable_cores())
