"""Both twins of the top-k and membership kernels against a plain Python sort and Python sets."""

import numpy as np
import pytest
import torch

from contrarec.errors import ConfigError, DataError
from contrarec.kernels.dispatch import HAS_NUMBA, set_threads
from contrarec.kernels.topk import (
    csr_tensors,
    empty_keys,
    in_rows,
    masked_top_k,
    merge_top_k,
    read_keys,
)

BACKENDS = ["reference", *(["numba"] if HAS_NUMBA else [])]
pytestmark = pytest.mark.parametrize("backend", BACKENDS)

SHAPES = [(1, 1), (2, 7), (5, 64), (3, 65), (4, 127), (41, 1271), (0, 9)]


def csr(rows):
    """CSR of a list of ascending lists."""
    indptr = np.cumsum([0, *map(len, rows)])
    return indptr, np.array([item for row in rows for item in row], np.int32)


def random_rows(rng, n_rows, n_columns, share):
    return [np.flatnonzero(rng.random(n_columns) < share).tolist() for _ in range(n_rows)]


def naive_top_k(scores, k, banned):
    """Sort everything that may be ranked by (score descending, index ascending)."""
    items = np.full((len(scores), k), -1)
    best = np.full((len(scores), k), -np.inf)
    for r, row in enumerate(scores.tolist()):
        order = sorted(
            (-score, j) for j, score in enumerate(row) if j not in banned[r] and score != -np.inf
        )
        for c, (score, j) in enumerate(order[:k]):
            items[r, c], best[r, c] = j, -score
    return items, best


def check(scores, k, backend, *, mask=None, rows=None, candidates=None):
    banned = [set() for _ in range(len(scores))]
    if mask is not None:
        indptr, indices = mask
        banned = [set(indices[indptr[u] : indptr[u + 1]].tolist()) for u in rows]
    if candidates is not None:
        banned = [taken | set(np.flatnonzero(~candidates).tolist()) for taken in banned]
    expected = naive_top_k(scores.detach().float().numpy(), k, banned)
    items, best = masked_top_k(
        scores, k, mask=mask, rows=rows, candidates=candidates, backend=backend
    )
    assert items.dtype == np.int32
    assert best.dtype == np.float32
    np.testing.assert_array_equal(items, expected[0])
    np.testing.assert_array_equal(best, expected[1].astype(np.float32))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", [1, 3, 20, 100])
@pytest.mark.parametrize("ties", [False, True])
def test_equals_a_sort(backend, shape, k, ties):
    rng = np.random.default_rng([*shape, k])
    scores = rng.normal(size=shape)
    scores = torch.tensor(np.round(scores) if ties else scores, dtype=torch.float32)
    check(scores, k, backend)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", [1, 20])
def test_mask_and_candidates(backend, shape, k):
    rng = np.random.default_rng([*shape, k, 1])
    n_rows, n_items = shape
    # The mask has other users, in another order, and items that the scores do not have.
    mask = csr(random_rows(rng, n_rows + 3, n_items + 5, 0.3))
    rows = rng.permutation(n_rows + 3)[:n_rows]
    candidates = rng.random(n_items) < 0.7
    scores = torch.tensor(np.round(rng.normal(size=shape), 1), dtype=torch.float32)
    check(scores, k, backend, mask=mask, rows=rows)
    check(scores, k, backend, candidates=candidates)
    check(scores, k, backend, mask=mask, rows=rows, candidates=candidates)


def test_the_best_items_are_the_masked_ones(backend):
    # As in training: histories rank first, and none may slip through.
    scores = torch.arange(300.0).repeat(2, 1)
    mask = csr([list(range(200, 300)), list(range(150, 299))])
    items, _ = masked_top_k(scores, 3, mask=mask, rows=np.array([0, 1]), backend=backend)
    assert items.tolist() == [[199, 198, 197], [299, 149, 148]]


def test_equal_scores_go_by_lowest_index(backend):
    scores = torch.zeros(1, 200)
    scores[0, 150] = 1
    items, _ = masked_top_k(scores, 4, backend=backend)
    assert items.tolist() == [[150, 0, 1, 2]]


def test_signed_zeros_are_equal(backend):
    scores = torch.tensor([[-1.0, -0.0, 0.0, -0.0, 0.0]])
    items, _ = masked_top_k(scores, 4, backend=backend)
    assert items.tolist() == [[1, 2, 3, 4]]


def test_extreme_values(backend):
    tiny = 1e-45  # the smallest positive float32
    values = [-np.inf, 3e38, tiny, -tiny, np.inf, -3e38, 0.0, 1e-38, -np.inf, np.inf]
    check(torch.tensor([values, values[::-1]]), 10, backend)


def test_fewer_rankable_than_k(backend):
    scores = torch.tensor([[0.5, -torch.inf, 0.7], [0.1, 0.2, 0.3]])
    mask = csr([[0], [0, 1, 2]])
    items, best = masked_top_k(scores, 3, mask=mask, rows=np.array([0, 1]), backend=backend)
    assert items.tolist() == [[2, -1, -1], [-1, -1, -1]]
    assert best.tolist() == [[pytest.approx(0.7), -np.inf, -np.inf], [-np.inf] * 3]


@pytest.mark.parametrize("descending", [False, True])
def test_sorted_rows(backend, descending):
    scores = torch.linspace(-1, 1, 5000)[None]
    check(scores.flip(1) if descending else scores, 50, backend)


@pytest.mark.parametrize("place", [0, 63, 64, 400, 499])
def test_a_nan_spoils_its_row_only(backend, place):
    scores = torch.rand(3, 500)
    scores[1, :5] = 2.0  # the threshold is set early, so the NaN comes after
    scores[1, place] = torch.nan
    mask = csr([[], [place], []])  # even where it is masked: the model is broken
    for options in ({}, {"mask": mask, "rows": np.arange(3)}):
        items, best = masked_top_k(scores, 2, **options, backend=backend)
        assert np.isnan(best).any(1).tolist() == [False, True, False]
        assert np.isnan(best[1]).all()
        assert items[1].tolist() == [-1, -1]
        assert (items[[0, 2]] >= 0).all()


def test_other_types_and_layouts(backend):
    base = torch.randn(130, 40, generator=torch.Generator().manual_seed(0))
    check(base.T, 7, backend)  # columns first
    check(base[::2, 1::3], 7, backend)  # with gaps
    check(base.bfloat16(), 7, backend)  # many ties
    check(base.double(), 7, backend)
    check(base.requires_grad_(), 7, backend)


def test_inputs_stay_as_they_are(backend):
    rng = np.random.default_rng(0)
    scores = torch.randn(9, 300)
    mask = csr(random_rows(rng, 9, 300, 0.2))
    rows, candidates = rng.permutation(9), rng.random(300) < 0.5
    kept = scores.clone(), mask[0].copy(), mask[1].copy(), rows.copy(), candidates.copy()
    masked_top_k(scores, 20, mask=mask, rows=rows, candidates=candidates, backend=backend)
    assert torch.equal(scores, kept[0])
    for after, before in zip((*mask, rows, candidates), kept[1:], strict=True):
        np.testing.assert_array_equal(after, before)


def test_any_number_of_threads_gives_the_same(backend):
    rng = np.random.default_rng(3)
    scores = torch.tensor(rng.normal(size=(257, 999)).round(1), dtype=torch.float32)
    mask = csr(random_rows(rng, 257, 999, 0.1))
    before, results = torch.get_num_threads(), []
    try:
        for n_threads in (1, 2):
            set_threads(n_threads)
            items, best = masked_top_k(scores, 20, mask=mask, rows=np.arange(257), backend=backend)
            results.append((items.tobytes(), best.tobytes()))
    finally:
        set_threads(before)
    assert results[0] == results[1]


@pytest.mark.parametrize("widths", [[1] * 300, [64, 64, 172], [63, 65, 1, 171], [299, 1]])
@pytest.mark.parametrize("k", [1, 7, 400])
def test_blocks_of_items_give_the_ranking_of_the_whole(backend, widths, k):
    rng = np.random.default_rng([k, len(widths)])
    scores = torch.tensor(rng.normal(size=(9, 300)).round(1), dtype=torch.float32)  # many ties
    scores[3, 170:] = -torch.inf
    scores[4, 200] = torch.nan  # noticed in the last block but one, and kept through the last
    scores[5, 10] = -torch.tensor(torch.nan)
    mask = csr(random_rows(rng, 9, 310, 0.3))
    rows, candidates = rng.permutation(9), rng.random(300) < 0.8
    banned = [
        set(mask[1][mask[0][u] : mask[0][u + 1]].tolist()) | set(np.flatnonzero(~candidates))
        for u in rows
    ]
    expected = naive_top_k(torch.where(scores.isnan(), 0, scores).numpy(), k, banned)
    expected[0][[4, 5]], expected[1][[4, 5]] = -1, np.nan
    cpu, first = torch.device("cpu"), 0
    keys = empty_keys(9, k, cpu)
    for block in scores.split(widths, dim=1):
        keys = merge_top_k(
            keys, block, first=first, mask=csr_tensors(mask, cpu), rows=torch.tensor(rows),
            candidates=torch.tensor(candidates), backend=backend,
        )  # fmt: skip
        first += block.shape[1]
    for got, wanted in zip(read_keys(keys), expected, strict=True):
        np.testing.assert_array_equal(got, wanted.astype(got.dtype))


def test_a_mask_that_may_not_be_written(backend):
    scores, mask = torch.arange(6.0).repeat(2, 1), csr([[5], [4, 5]])
    for part in mask:
        part.flags.writeable = False
    items, _ = masked_top_k(scores, 1, mask=mask, rows=np.array([0, 1]), backend=backend)
    assert items.tolist() == [[4], [3]]


def test_refusals(backend):
    scores, mask = torch.zeros(2, 5), csr([[0], [1]])
    with pytest.raises(ConfigError, match="`k` must be at least 1, got 0"):
        masked_top_k(scores, 0, backend=backend)
    with pytest.raises(ConfigError, match=r"`scores` must be \[b, n_items\], got \(5,\)"):
        masked_top_k(scores[0], 1, backend=backend)
    with pytest.raises(ConfigError, match="given together"):
        masked_top_k(scores, 1, mask=mask, backend=backend)
    with pytest.raises(ConfigError, match=r"`rows` must be \[2\]"):
        masked_top_k(scores, 1, mask=mask, rows=np.array([0]), backend=backend)
    with pytest.raises(ConfigError, match=r"`candidates` must be \[5\]"):
        masked_top_k(scores, 1, candidates=np.ones(4, bool), backend=backend)
    for outside in (-1, 2):
        with pytest.raises(DataError, match=r"`rows` must lie in \[0, 2\)"):
            masked_top_k(scores, 1, mask=mask, rows=np.array([0, outside]), backend=backend)
        with pytest.raises(DataError, match=r"`rows` must lie in \[0, 2\)"):
            in_rows(np.zeros((1, 1), np.int32), np.array([outside]), mask, backend=backend)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_membership_equals_sets(backend, share):
    rng = np.random.default_rng(int(share * 10))
    truth = random_rows(rng, 30, 50, share)
    rows = rng.integers(30, size=60)
    items = rng.integers(-1, 60, size=(60, 8)).astype(np.int32)  # also empty and unknown ones
    expected = [[j in truth[u] for j in row] for u, row in zip(rows, items.tolist(), strict=True)]
    found = in_rows(items, rows, csr(truth), backend=backend)
    assert found.tolist() == expected


def test_an_empty_place_is_nobodys(backend):
    # -1 in row 1 must not be taken for the last item of row 0.
    truth = csr([[4], [0]])
    found = in_rows(
        np.array([[-1, 4], [-1, 0]], np.int32), np.array([0, 1]), truth, backend=backend
    )
    assert found.tolist() == [[False, True], [False, True]]
