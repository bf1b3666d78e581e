"""Which twin of a kernel runs, and on how many threads."""

from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from contrarec.errors import BackendError, ConfigError, unknown

Backend = Literal["auto", "reference", "numba"]

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
    if backend == "auto":
        return "numba" if HAS_NUMBA and on_cpu else "reference"
    if not HAS_NUMBA:
        raise BackendError(
            "backend 'numba' was asked for and numba is not installed: pip install numba"
        )
    if not on_cpu:
        devices = sorted({tensor.device.type for tensor in tensors})
        raise BackendError(f"backend 'numba' runs on the CPU, got tensors on {', '.join(devices)}")
    return "numba"


def set_threads(n: int) -> None:
    """Let torch and the compiled kernels use `n` threads each; they take turns, never both at once.

    Raises:
        ConfigError: `n` is smaller than 1.
    """
    if n < 1:
        raise ConfigError(f"`threads` must be at least 1, got {n}.")
    torch.set_num_threads(n)
    if HAS_NUMBA:
        numba.set_num_threads(min(n, _MOST_THREADS))
