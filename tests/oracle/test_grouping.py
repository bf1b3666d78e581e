"""Grouping against NumPy's stable sort, for few keys and for more than one digit holds."""

import itertools

import numpy as np
import pytest

from contrarec.kernels.cpu.grouping import balanced_bound
from contrarec.kernels.grouping import group_positions, group_rows


@pytest.mark.parametrize(
    ("size", "n_groups"),
    [
        (0, 5),
        (1, 1),
        (500, 3),
        (700, 700),
        (700, 701),
        (700, 2048),
        (700, 2049),
        (3000, 5_000_000),
        (9, 2**31),
    ],
)
def test_positions_against_a_stable_sort(size, n_groups):
    keys = np.random.default_rng(0).integers(0, n_groups, size)
    if size > 2:
        keys[0], keys[-1], keys[1] = n_groups - 1, 0, n_groups - 1
    before = keys.copy()
    groups = group_positions(keys, n_groups)
    rows, counts = np.unique(keys, return_counts=True)
    assert np.array_equal(groups.rows, rows)
    assert np.array_equal(np.diff(groups.offsets), counts)
    assert groups.offsets[0] == 0
    assert np.array_equal(groups.order, np.argsort(keys, kind="stable"))
    assert np.array_equal(keys, before)


def test_group_rows_is_a_stable_sort():
    keys = np.random.default_rng(0).integers(0, 11, 500)
    offsets, order = group_rows(keys, 13)
    assert np.array_equal(order, np.argsort(keys, kind="stable"))
    assert np.array_equal(np.diff(offsets), np.bincount(keys, minlength=13))


def test_bounds_share_the_work():
    lengths = np.array([0, 90, 0, 5, 5, 100, 0, 0, 1])
    offsets = np.concatenate([[0], lengths.cumsum()])
    bounds = [balanced_bound(offsets, chunk, 4) for chunk in range(5)]
    assert bounds[0] == 0
    assert bounds[-1] == len(lengths)
    work = [(lengths[a:b] + 1).sum() for a, b in itertools.pairwise(bounds)]
    assert sum(work) == lengths.sum() + len(lengths)
    assert max(work) <= (lengths.sum() + len(lengths)) / 4 + lengths.max() + 1
