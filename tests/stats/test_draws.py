"""Distribution of the sampler, and what must hold for every draw.

Chi-square tests reject at 1e-6: with fixed seeds they are either right or wrong, once and for all.
"""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from contrarec.kernels.dispatch import set_threads
from contrarec.kernels.draws import draw_batch, stream_key

N_ITEMS = 130
HISTORIES = [
    [0, 1, 2],
    [],
    [5, 129],
    [i for i in range(N_ITEMS) if i != 17],
    [14],
    list(range(0, N_ITEMS, 2)),
]
N_ROWS = sum(map(len, HISTORIES))


@pytest.fixture
def log():
    indptr = np.cumsum([0, *map(len, HISTORIES)]).astype(np.int64)
    indices = np.concatenate(HISTORIES).astype(np.int32)
    return indptr, indices, np.flatnonzero(np.diff(indptr))


def draw(log, *, rows=None, n_neg=8, by_user=False, key=1, backend="numba"):
    rows = rows if rows is not None else range(len(log[1]))
    return draw_batch(
        *log, rows, n_items=N_ITEMS, n_neg=n_neg, by_user=by_user, key=key, backend=backend
    )


@pytest.mark.parametrize("by_user", [False, True])
def test_reference_and_compiled_draw_the_same(log, by_user):
    for key in (0, stream_key(3, 1, 4), 2**64 - 1):
        for a, b in zip(
            draw(log, by_user=by_user, key=key),
            draw(log, by_user=by_user, key=key, backend="reference"),
            strict=True,
        ):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("length", [255, 256, 257, 700])
def test_long_histories_are_searched_as_short_ones_are_stepped_through(length):
    rng = np.random.default_rng(length)
    indices = np.sort(rng.choice(1000, length, replace=False)).astype(np.int32)
    log = np.array([0, length]), indices, np.array([0])
    options = {"n_items": 1000, "n_neg": 33, "by_user": False, "key": 9}
    a, b = (draw_batch(*log, range(60), **options, backend=name) for name in ("numba", "reference"))
    assert np.array_equal(a[1], b[1])
    assert not np.isin(a[1][:, 1:], indices).any()


@pytest.mark.parametrize("by_user", [False, True])
def test_positives_are_history_and_negatives_never(log, by_user):
    for key in range(50):
        users, items = draw(log, by_user=by_user, key=key)
        for u, row in zip(users, items, strict=True):
            assert row[0] in HISTORIES[u]
            assert not set(row[1:]) & set(HISTORIES[u])
            assert row.min() >= 0
            assert row.max() < N_ITEMS


def test_an_epoch_is_each_interaction_once(log):
    seen = [draw(log, rows=range(start, min(start + 7, N_ROWS))) for start in range(0, N_ROWS, 7)]
    pairs = sorted((u, i) for users, items in seen for u, i in zip(users, items[:, 0], strict=True))
    assert pairs == sorted((u, i) for u, history in enumerate(HISTORIES) for i in history)


def test_an_epoch_takes_users_equally_often(log):
    users, _ = draw(log, by_user=True)
    counts = np.bincount(users, minlength=6)
    assert counts[1] == 0
    assert set(counts[[0, 2, 3, 4, 5]]) == {N_ROWS // 5}  # rows over five users with a history


def test_negatives_are_uniform_over_the_rest(log):
    draws = [draw(log, n_neg=400, key=key) for key in range(40)]
    for u, history in enumerate(HISTORIES):
        if 0 < len(history) < N_ITEMS - 1:
            drawn = np.concatenate([items[users == u, 1:].ravel() for users, items in draws])
            rest = np.setdiff1d(np.arange(N_ITEMS), history)
            assert chisquare(np.bincount(drawn, minlength=N_ITEMS)[rest]).pvalue > 1e-6


def test_negatives_of_a_row_are_independent_of_each_other(log):
    pairs = np.zeros((129, 129))
    for key in range(400):
        users, items = draw(log, n_neg=2, key=key, by_user=True)
        free = items[users == 4, 1:]
        free = free - (free > 14)  # user 4 has only item 14: ranks among the rest
        np.add.at(pairs, (free[:, 0], free[:, 1]), 1)
    blocks = pairs[:128, :128].reshape(4, 32, 4, 32).sum((1, 3))
    assert chisquare(blocks.ravel()).pvalue > 1e-6


def test_positives_of_a_user_are_uniform(log):
    drawn = [draw(log, by_user=True, key=key, n_neg=1) for key in range(400)]
    first = np.concatenate([items[users == 5, 0] for users, items in drawn])
    assert chisquare(np.bincount(first, minlength=N_ITEMS)[::2]).pvalue > 1e-6


def test_the_order_of_epochs_is_uniform(log):
    places = np.zeros(N_ROWS)
    for key in range(4000):
        users, items = draw(log, key=stream_key(7, key), n_neg=1, rows=range(1))
        places[np.flatnonzero((np.repeat(np.arange(6), [len(h) for h in HISTORIES]) == users[0])
                              & (log[1] == items[0, 0]))] += 1  # fmt: skip
    assert chisquare(places).pvalue > 1e-6


def test_independent_of_threads_and_of_batch_borders(log):
    whole = draw(log)
    threads = torch.get_num_threads()
    try:
        set_threads(1)
        parts = [draw(log, rows=range(13)), draw(log, rows=range(13, N_ROWS))]
    finally:
        set_threads(threads)
    for k in (0, 1):
        assert np.array_equal(whole[k], np.concatenate([part[k] for part in parts]))


def test_keys_give_different_streams(log):
    assert not np.array_equal(draw(log, key=1)[1], draw(log, key=2)[1])
    assert stream_key(0, 0, 1) != stream_key(0, 1, 0)
