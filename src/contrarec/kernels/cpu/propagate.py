"""The product of a sparse matrix and a dense one, compiled."""

from contrarec.kernels.cpu.compile import njit, prange
from contrarec.kernels.cpu.grouping import CHUNKS, balanced_bound
from contrarec.kernels.cpu.prefetch import prefetch_row

_AHEAD = 16  # edges between asking for a row and adding it: about the time that memory takes
_CACHED = 8 << 20  # bytes of a table whose rows the caches have anyway: asking costs a third there


@njit
def add_product(indptr, indices, weights, x, base, scale, out):  # type: ignore[no-untyped-def]
    """Write `scale · (base + A x)` into `out`, for `A` in compressed sparse rows."""
    # four columns at a time
    d, last = x.shape[1], len(indices) - 1
    far = x.nbytes > _CACHED
    for c in prange(CHUNKS):
        for r in range(balanced_bound(indptr, c, CHUNKS), balanced_bound(indptr, c + 1, CHUNKS)):
            acc, own = out[r], base[r]
            for k in range(d):
                acc[k] = scale * own[k]
            q, end = indptr[r], indptr[r + 1]
            while q + 4 <= end:
                if far:
                    for p in range(q + _AHEAD, q + _AHEAD + 4):
                        prefetch_row(x, indices[min(p, last)])
                x0, x1 = x[indices[q]], x[indices[q + 1]]
                x2, x3 = x[indices[q + 2]], x[indices[q + 3]]
                w0, w1 = scale * weights[q], scale * weights[q + 1]
                w2, w3 = scale * weights[q + 2], scale * weights[q + 3]
                for k in range(d):
                    acc[k] += (w0 * x0[k] + w1 * x1[k]) + (w2 * x2[k] + w3 * x3[k])
                q += 4
            while q < end:
                x0, w0 = x[indices[q]], scale * weights[q]
                for k in range(d):
                    acc[k] += w0 * x0[k]
                q += 1
