"""Streaming: same lists whatever the block, bounded memory, clear refusals."""

import weakref

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from contrarec.errors import ConfigError, DataError
from contrarec.evaluation import ranking
from contrarec.evaluation.ranking import default_block_size, dot_scorer, top_k

N_USERS, N_ITEMS = 23, 40


@pytest.fixture
def tables():
    g = torch.Generator().manual_seed(0)
    # Small integers: scores are exact and full of ties, however the product is blocked.
    return (
        torch.randint(-2, 3, (N_USERS, 3), generator=g).float(),
        torch.randint(-2, 3, (N_ITEMS, 3), generator=g).float(),
    )


@pytest.fixture
def mask():
    return csr_matrix(np.random.default_rng(0).random((N_USERS, N_ITEMS)) < 0.3)


def test_a_checkerboard_has_a_known_answer():
    # User u has seen the items of its own parity, except item u. With scores that say so, item u
    # comes first, then the items of the other parity by index.
    n = 8
    parity = (np.add.outer(np.arange(n), np.arange(n)) % 2 == 0).astype(float)
    seen = parity - np.eye(n)
    score = torch.tensor(parity, dtype=torch.float32)
    items, best = top_k(
        lambda users: score[users], np.arange(n), 3, n_items=n, mask=csr_matrix(seen)
    )
    for u in range(n):
        assert items[u].tolist() == [u, *([1, 3] if u % 2 == 0 else [0, 2])]
    assert best.tolist() == [[1, 0, 0]] * n


def test_dot_scorer_is_the_dot_product():
    score = dot_scorer(
        torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0]])
    )
    assert score(np.array([1, 0])).tolist() == [[4, 6], [1 * 3 + 2 * 4, 1 * 5 + 2 * 6]]


@pytest.mark.parametrize("block_size", [1, 7, 22, 23, 1000])
def test_blocks_change_nothing(tables, mask, block_size):
    users = np.random.default_rng(1).permutation(N_USERS)
    candidates = np.arange(0, N_ITEMS, 3)
    whole = top_k(dot_scorer(*tables), users, 9, n_items=N_ITEMS, mask=mask, candidates=candidates)
    blocks = top_k(
        dot_scorer(*tables), users, 9, n_items=N_ITEMS, mask=mask, candidates=candidates,
        block_size=block_size,
    )  # fmt: skip
    for a, b in zip(whole, blocks, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("tile", [(4, 1), (4, 12), (7, 7 * 39), (23, 23 * 40)])
def test_tiles_change_nothing(tables, mask, monkeypatch, backend, tile):
    users = np.random.default_rng(1).permutation(N_USERS)
    options = {"n_items": N_ITEMS, "mask": mask, "candidates": np.arange(1, N_ITEMS, 2)}
    scores = tables[0] @ tables[1].T
    whole = top_k(lambda block: scores[block], users, 9, **options)
    monkeypatch.setattr(ranking, "_TILE", {"cpu": tile, "cuda": tile})
    monkeypatch.setattr(ranking, "_LEAST_WIDTH", 1)
    for a, b in zip(
        whole, top_k(dot_scorer(*tables), users, 9, backend=backend, **options), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("n_users", "block_size"), [(1, None), (5000, None), (5000, 100)])
def test_memory_of_tiles(n_users, block_size):
    scorer = dot_scorer(torch.zeros(n_users, 2), torch.zeros(300_000, 2))
    size, memory = ranking._block(scorer, n_users, 300_000, block_size)
    assert size <= (block_size or 512)
    assert len(memory) <= 1 << 19
    shapes = [tuple(tile.shape) for tile in scorer.tiles(np.arange(size), memory)]
    assert sum(width for _, width in shapes) == 300_000
    assert len(memory) == size * max(width for _, width in shapes)


def test_each_user_has_its_own_mask_row(tables, mask):
    # Users out of order, twice, and not all of them.
    users = np.array([5, 2, 5, 22, 0])
    items, best = top_k(dot_scorer(*tables), users, 6, n_items=N_ITEMS, mask=mask, block_size=2)
    scores = (tables[0] @ tables[1].T).numpy()
    for row, user in enumerate(users):
        free = np.setdiff1d(np.arange(N_ITEMS), mask[user].indices)
        expected = free[np.argsort(-scores[user, free], kind="stable")[:6]]
        assert items[row].tolist() == expected.tolist()
        assert best[row].tolist() == scores[user, expected].tolist()


def test_short_lists_are_padded(tables):
    items, best = top_k(
        dot_scorer(*tables), np.arange(2), 5, n_items=N_ITEMS, candidates=np.array([3, 7])
    )
    assert np.sort(items[:, :2], axis=1).tolist() == [[3, 7], [3, 7]]
    assert (items[:, 2:] == -1).all()
    assert np.isneginf(best[:, 2:]).all()


def test_items_that_the_scorer_does_not_know_are_ignored(tables, mask):
    U, V = tables
    candidates = np.array([0, 2, 3, 5, 7, 11, 18, 39])
    items, _ = top_k(
        dot_scorer(U, V[:10]), np.arange(N_USERS), 10, n_items=10, mask=mask, candidates=candidates
    )
    for user in range(N_USERS):
        free = {0, 2, 3, 5, 7} - set(mask[user].indices.tolist())
        assert set(items[user].tolist()) - {-1} == free


def test_memory_is_bounded_by_the_block():
    asked = []

    def scorer(users):
        asked.append(len(users))
        return torch.zeros(len(users), 300_000)

    top_k(scorer, np.arange(60), 2, n_items=300_000, block_size=25)
    assert asked == [25, 25, 10]
    asked.clear()
    top_k(scorer, np.arange(40), 2, n_items=300_000)
    assert sum(asked) == 40
    assert max(asked) == default_block_size(300_000) == 16


def test_one_block_at_a_time():
    alive = []

    def scorer(users):
        assert all(block() is None for block in alive)
        scores = torch.zeros(len(users), 50)
        alive.append(weakref.ref(scores))
        return scores

    top_k(scorer, np.arange(30), 2, n_items=50, block_size=10)
    assert len(alive) == 3


@pytest.mark.parametrize("n_items", [1, 100, 1_000, 42_000, 1_000_000, 10_000_000, 10**9])
def test_default_block(n_items):
    size = default_block_size(n_items)
    assert size >= 1
    assert size == 1 or size * n_items * 4 <= 64 << 20
    assert size * n_items * 4 > 8 << 20  # nor needlessly small


def test_no_graph_is_kept(tables):
    seen = []

    def scorer(users):
        scores = tables[0].requires_grad_()[users] @ tables[1].T
        seen.append(scores.requires_grad)
        return scores

    top_k(scorer, np.arange(4), 2, n_items=N_ITEMS)
    assert seen == [False]


def test_read_only_users(tables):
    users = np.arange(4)
    users.flags.writeable = False  # as they come out of a data frame
    items, _ = top_k(dot_scorer(*tables), users, 4, n_items=N_ITEMS)
    assert items.shape == (4, 4)


def test_nobody(tables):
    items, best = top_k(dot_scorer(*tables), np.arange(0), 4, n_items=N_ITEMS)
    assert items.shape == best.shape == (0, 4)


def test_a_nan_score_is_an_error_that_names_the_user(tables):
    U, V = tables
    U[[4, 9]] = torch.nan
    with pytest.raises(DataError, match=r"NaN for 2 of 23 users, the first with index 4: has the"):
        top_k(dot_scorer(U, V), np.arange(N_USERS), 3, n_items=N_ITEMS)


def test_refusals(tables, mask):
    score, users = dot_scorer(*tables), np.arange(N_USERS)
    with pytest.raises(ConfigError, match="`k` must be at least 1, got 0"):
        top_k(score, users, 0, n_items=N_ITEMS)
    with pytest.raises(ConfigError, match="`block_size` must be at least 1, got 0"):
        top_k(score, users, 1, n_items=N_ITEMS, block_size=0)
    with pytest.raises(DataError, match="`users` must be indices from 0 on, got -1"):
        top_k(score, np.array([2, -1]), 1, n_items=N_ITEMS)
    with pytest.raises(ConfigError, match=r"must return \[23, 41\] .*, got \(23, 40\)"):
        top_k(score, users, 1, n_items=N_ITEMS + 1)
    with pytest.raises(DataError, match=r"must lie in \[0, 23\), got values from 3 to 23"):
        top_k(lambda block: torch.zeros(len(block), N_ITEMS), np.array([3, 23]), 1,
              n_items=N_ITEMS, mask=mask)  # fmt: skip
    with pytest.raises(ConfigError, match=r"same dim, got \(2, 3\) and \(2, 4\)"):
        dot_scorer(torch.zeros(2, 3), torch.zeros(2, 4))
