"""One step of Adam on some rows of a table, compiled."""

import numpy as np

from contrarec.kernels.cpu.compile import njit, prange
from contrarec.kernels.cpu.grouping import CHUNKS


@njit
def adam_rows(  # type: ignore[no-untyped-def]
    table, mean, square, rows, grads, first, second, rate, root_scale, eps
):
    """Compute `contrarec.kernels.adam.adam_rows`; `first` and `second` are the betas."""
    d = table.shape[1]
    n = len(rows)
    one = table.dtype.type(1)
    for c in prange(CHUNKS):
        for q in range(n * c // CHUNKS, n * (c + 1) // CHUNKS):
            x, m, v, g = table[rows[q]], mean[rows[q]], square[rows[q]], grads[q]
            for k in range(d):
                m[k] = first * m[k] + (one - first) * g[k]
                v[k] = second * v[k] + (one - second) * g[k] * g[k]
                x[k] -= rate * m[k] / (root_scale * np.sqrt(v[k]) + eps)
