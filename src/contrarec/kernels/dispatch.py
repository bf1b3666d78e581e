"""Which twin of a kernel runs, and on how many threads."""

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from contrarec.errors import BackendError, ConfigError, unknown

Backend = Literal["auto", "reference", "numba"]

_CGROUPS = Path("/sys/fs/cgroup")

if TYPE_CHECKING:

    def njit(function: Any) -> Any:
        """Compile a parallel kernel (typed for the checker; the real one is below)."""

    def njit_serial(function: Any) -> Any:
        """Compile a helper without parallel loops (typed for the checker, too)."""

    import numba

    prange = range
    HAS_NUMBA: bool
    _MOST_THREADS: int
else:
    try:
        import numba

        HAS_NUMBA = True
        _MOST_THREADS = numba.config.NUMBA_NUM_THREADS
        # numba's OpenMP layer, loaded after torch, runs on torch's OpenMP and its threads: one
        # pool. Any other layer brings threads of its own, which those of torch, still spinning
        # from the last operation, keep off the cores. The variable NUMBA_THREADING_LAYER wins.
        numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]
        prange = numba.prange
        # Reassociation is allowed (dot products must vectorise); NaN and inf keep their meaning,
        # since a diverged model has to be noticed.
        _FASTMATH = {"reassoc", "contract", "nsz", "arcp"}

        def njit(function):
            """Compile a kernel: parallel over `prange`, without the GIL, cached on disk."""
            return numba.njit(parallel=True, nogil=True, cache=True, fastmath=_FASTMATH)(function)

        def njit_serial(function):
            """Compile a helper that has no parallel loop."""
            return numba.njit(nogil=True, cache=True, fastmath=_FASTMATH)(function)
    except ImportError:  # a Python too new for numba: the reference twins serve
        HAS_NUMBA = False
        prange = range

        def njit(function):
            """Leave a kernel uncompiled: `resolve` never chooses it without numba."""
            return function

        njit_serial = njit


def resolve(backend: Backend, *tensors: torch.Tensor) -> Literal["reference", "numba"]:
    """Choose the twin for these tensors.

    `auto` takes numba where it is installed and every tensor is on the CPU. A back end that was
    asked for by name is never replaced silently.

    Raises:
        ConfigError: `backend` is not a known name.
        BackendError: numba was asked for and is not installed, or a tensor is not on the CPU.
    """
    if backend not in get_args(Backend):
        raise ConfigError(unknown("backend", str(backend), get_args(Backend)))
    if backend == "reference":
        return "reference"
    on_cpu = all(tensor.device.type == "cpu" for tensor in tensors)
    if backend == "auto" and not (HAS_NUMBA and on_cpu):
        return "reference"
    if not HAS_NUMBA:
        raise BackendError(
            "backend 'numba' was asked for and numba is not installed: pip install numba"
        )
    if not on_cpu:
        devices = sorted({tensor.device.type for tensor in tensors})
        raise BackendError(f"backend 'numba' runs on the CPU, got tensors on {', '.join(devices)}")
    _follow_torch()
    return "numba"


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
    Polars fixes its number when it is imported: it follows if that is still to come.

    Raises:
        ConfigError: `n` is smaller than 1.
    """
    if n < 1:
        raise ConfigError(f"`threads` must be at least 1, got {n}.")
    torch.set_num_threads(n)
    if HAS_NUMBA:
        _follow_torch()
    if "polars" not in sys.modules:
        os.environ["POLARS_MAX_THREADS"] = str(n)


def _follow_torch() -> None:
    n = torch.get_num_threads()
    numba.set_num_threads(min(n, _MOST_THREADS))
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
