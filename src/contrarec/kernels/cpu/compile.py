"""How the CPU's kernels are compiled, and on whose threads they run."""

from typing import TYPE_CHECKING, Any

import numba

MOST_THREADS: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]

# numba's OpenMP layer, loaded after torch, runs on torch's OpenMP and its threads: one pool. Any
# other layer brings threads of its own, which those of torch, still spinning from the last
# operation, keep off the cores. The variable NUMBA_THREADING_LAYER wins.
numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]  # type: ignore[attr-defined]

# Reassociation is allowed (dot products must vectorise); NaN and inf keep their meaning, since a
# diverged model has to be noticed.
_FASTMATH = {"reassoc", "contract", "nsz", "arcp"}

prange = range if TYPE_CHECKING else numba.prange


def njit(function: Any) -> Any:
    """Compile a kernel: parallel over `prange`, without the GIL, cached on disk."""
    return numba.njit(parallel=True, nogil=True, cache=True, fastmath=_FASTMATH)(function)


def njit_serial(function: Any) -> Any:
    """Compile a helper that has no parallel loop."""
    return numba.njit(nogil=True, cache=True, fastmath=_FASTMATH)(function)
