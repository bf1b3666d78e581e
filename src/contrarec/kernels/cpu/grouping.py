"""Sorting positions by key, compiled."""

import numpy as np

from contrarec.kernels.cpu.compile import njit_serial

CHUNKS = 64
"""Work items per parallel loop: enough to balance rows of unequal length."""
_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


@njit_serial
def balanced_bound(offsets, chunk, n_chunks):  # type: ignore[no-untyped-def]
    """Find where chunk `chunk` of `n_chunks` starts, so that all hold about equal work.

    Work is the number of positions plus the number of groups; popular items must not pile up.
    """
    n_groups = len(offsets) - 1
    target = (offsets[n_groups] + n_groups) * chunk // n_chunks
    low, high = 0, n_groups
    while low < high:
        middle = (low + high) // 2
        if offsets[middle] + middle < target:
            low = middle + 1
        else:
            high = middle
    return low


@njit_serial
def counting_sort(keys, offsets, order):  # type: ignore[no-untyped-def]
    """Add to `offsets`, zeros, where groups end, and fill `order`."""
    n_groups = len(offsets) - 1
    cursor = np.zeros(n_groups, np.int32)  # narrow, so that more of them fit a cache
    for p in range(len(keys)):
        cursor[keys[p]] += 1
    for g in range(n_groups):
        offsets[g + 1] = offsets[g] + cursor[g]
        cursor[g] = offsets[g]
    for p in range(len(keys)):
        g = keys[p]
        order[cursor[g]] = p
        cursor[g] += 1


@njit_serial
def sort(keys, n_groups, rows, offsets, order):  # type: ignore[no-untyped-def]
    """Fill the parts of `Groups`, whose arrays are long enough; return the number of groups."""
    starts = np.zeros(n_groups + 1, np.int64)
    counting_sort(keys, starts, order)
    g = 0
    for key in range(n_groups):
        if starts[key] < starts[key + 1]:
            rows[g] = key
            offsets[g] = starts[key]
            g += 1
    offsets[g] = len(keys)
    return g


@njit_serial
def radix_sort(keys, n_passes, digit_bits, rows, offsets, order):  # type: ignore[no-untyped-def]
    """Do the same as `sort` with counters for a digit of the key."""
    # Key above, position below: one word moves through passes over digits of the key, lowest first.
    size = len(keys)
    n_digits = 1 << digit_bits
    mask = np.uint64(n_digits - 1)
    words, spare = np.empty(size, np.uint64), np.empty(size, np.uint64)
    for p in range(size):
        words[p] = (np.uint64(keys[p]) << _HALF) | np.uint64(p)
    for number in range(n_passes):
        shift = _HALF + np.uint64(number * digit_bits)
        start = np.zeros(n_digits + 1, np.int64)
        for p in range(size):
            start[np.int64((words[p] >> shift) & mask) + 1] += 1
        for digit in range(n_digits):
            start[digit + 1] += start[digit]
        for p in range(size):
            bucket = np.int64((words[p] >> shift) & mask)
            spare[start[bucket]] = words[p]
            start[bucket] += 1
        words, spare = spare, words
    g = -1
    for p in range(size):
        key = np.int64(words[p] >> _HALF)
        if g < 0 or key != rows[g]:
            g += 1
            rows[g] = key
            offsets[g] = p
        order[p] = np.int64(words[p] & _LOW)
    offsets[g + 1] = size
    return g + 1
