"""Adding a multiple of rows to their gradients, compiled."""

from contrarec.kernels.cpu.compile import njit, prange


@njit
def pull_rows(table, rows, offsets, place, weight, out):  # type: ignore[no-untyped-def]
    """Add to row `place[g]` of `out` row `rows[g]` of the table, weighted, once per position."""
    d = table.shape[1]
    for g in prange(len(rows)):
        row, acc = table[rows[g]], out[place[g]]
        factor = weight * table.dtype.type(offsets[g + 1] - offsets[g])
        for k in range(d):
            acc[k] += factor * row[k]
