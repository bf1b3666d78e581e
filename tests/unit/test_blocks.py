"""Dividing users among workers: the cuts, the draws, the initial rows, the files, the refusals."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from contrarec import Dataset
from contrarec.data.blocks import block_of, cut_points, slice_users
from contrarec.distributed import ROW_LOSSES, check_divisible
from contrarec.distributed.build import _PIECE, fill_rows
from contrarec.distributed.exchange import rows_pay
from contrarec.distributed.refusals import check_histories
from contrarec.distributed.shards import read_block, write_blocks
from contrarec.errors import ConfigError, DataError
from contrarec.kernels.draws import draw_batch, draw_block
from contrarec.losses import LOSSES
from contrarec.sampling import Sampler
from contrarec.settings import resolve_settings


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 12, 50)
    counts[7], counts[[0, 20, 49]] = 29, 0
    pairs = [(u, i) for u, n in enumerate(counts) for i in rng.permutation(30)[:n]]
    held_out = {"user": [0, 20, 49, 7], "item": [1, 2, 3, 4]}
    frame = {"user": [u for u, _ in pairs], "item": [int(i) for _, i in pairs]}
    return Dataset.from_parts(
        train=pl.DataFrame(frame), valid=pl.DataFrame(held_out), not_candidates=[5], name="d"
    )


@pytest.mark.parametrize(
    ("counts", "n", "cuts"),
    [
        ([1, 1, 2, 4], 2, [0, 3, 4]),
        ([5, 0, 0, 5], 2, [0, 3, 4]),  # users without interactions go with those before them
        ([9, 1, 1, 1], 4, [0, 1, 2, 3, 4]),
        ([1, 1, 1, 9], 3, [0, 2, 3, 4]),
        ([0, 1, 0], 1, [0, 3]),
    ],
)
def test_blocks_have_equally_many_interactions_and_none_is_empty(counts, n, cuts):
    found = cut_points(np.array(counts), n).tolist()
    assert (found[0], found[-1], len(found)) == (cuts[0], cuts[-1], len(cuts))
    sums = [sum(counts[a:b]) for a, b in pairwise(found)]
    assert min(sums) > 0
    assert sums == [sum(counts[a:b]) for a, b in pairwise(cuts)]


@pytest.mark.parametrize("n", [0, 4])
def test_more_blocks_than_users_are_refused(n):
    with pytest.raises(ConfigError, match=f"between 1 and the 3 users .* got {n}"):
        cut_points(np.array([1, 0, 1, 1]), n)


@pytest.mark.parametrize("backend", ["reference", "numba"])
@pytest.mark.parametrize("by_user", [False, True])
def test_the_draws_of_all_blocks_are_those_of_the_whole(data, backend, by_user):
    train = data.train
    options = {"n_items": 30, "n_neg": 3, "by_user": by_user, "key": 12345, "backend": backend}
    rows = range(40, 140)
    log = (train.indptr, train.indices, np.flatnonzero(train.user_counts))
    users, items = draw_batch(*log, rows, **options)
    found = 0
    for first, last in ((0, 8), (8, 9), (9, train.n_users)):
        own, block = slice_users(train, first, last), block_of(train, first)
        places = {n: getattr(block, n) for n in ("first_row", "nnz", "first_active", "n_active")}
        log = (own.indptr, own.indices, np.flatnonzero(own.user_counts))
        mine = (users >= first) & (users < last)
        drawn = draw_block(*log, rows, **places, **options)
        np.testing.assert_array_equal(drawn[0] + first, users[mine])
        np.testing.assert_array_equal(drawn[1], items[mine])
        found += len(drawn[0])
    assert found == 100


def test_the_shares_of_a_batch_add_up(data):
    train = data.train
    options = {"batch_size": 64, "n_neg": 2, "positives": "interaction", "drop_last": False}
    samplers = [
        Sampler(slice_users(train, a, b), **options, seed=0, block=block_of(train, a))
        for a, b in ((0, 20), (20, train.n_users))
    ]
    assert {sampler.n_batches for sampler in samplers} == {-(-train.nnz // 64)}
    for batches in zip(*(sampler.batches(0) for sampler in samplers), strict=True):
        assert sum(batch.share for batch in batches) == pytest.approx(1)


@pytest.mark.parametrize(("n_rows", "dim"), [(7, 1), (50, 8), (3 * _PIECE + 5, 3)])
def test_a_block_starts_with_its_rows_of_the_whole_table(n_rows, dim):
    whole, after = nn.Parameter(torch.empty(n_rows, dim)), torch.Generator().manual_seed(4)
    nn.init.xavier_normal_(whole, generator=after)
    for first, last in ((0, n_rows // 3), (n_rows // 3, n_rows)):
        part = nn.Parameter(torch.empty(last - first, dim))
        generator = torch.Generator().manual_seed(4)
        fill_rows(part, n_rows, first, generator)
        torch.testing.assert_close(part, whole[first:last], rtol=0, atol=0)
        assert torch.equal(generator.get_state(), after.get_state())


def test_a_worker_reads_its_own_users_alone(data, tmp_path):
    write_blocks(tmp_path / "blocks", data, 3)
    n_users = 0
    for rank in range(3):
        part, block = read_block(tmp_path / "blocks", rank)
        first, last = block.first_user, block.first_user + part.n_users
        n_users += part.n_users
        own = slice_users(data.train, first, last)
        np.testing.assert_array_equal(part.train.indptr, own.indptr)
        np.testing.assert_array_equal(part.train.indices, own.indices)
        np.testing.assert_array_equal(part.candidates, data.candidates)
        for mine, whole in (
            (part.valid.truth, data.valid.truth),
            (part.valid.mask, data.valid.mask),
        ):
            np.testing.assert_array_equal(mine.indices, slice_users(whole, first, last).indices)
        wanted = block_of(data.train, first)
        assert vars(block) | {"item_counts": 0} == vars(wanted) | {"item_counts": 0}
        np.testing.assert_array_equal(block.item_counts, wanted.item_counts)
    assert n_users == data.n_users


def test_rows_are_sent_where_that_takes_fewer_bytes():
    # 4 workers, 50 pairs each: 49 of 1,000 rows, 4 · 49 · (16 + 8) < 2 · 1,000 · 16 bytes
    assert rows_pay(n_rows=1000, dim=4, n_pairs=200, n_workers=4)
    # but 39 of 100 rows: 4 · 39 · 24 > 2 · 100 · 16
    assert not rows_pay(n_rows=100, dim=4, n_pairs=200, n_workers=4)


class TestRefusals:
    @pytest.mark.parametrize("name", ROW_LOSSES)
    def test_what_can_be_divided(self, name):
        check_divisible(resolve_settings(backbone="mf", loss=name), 2)

    @pytest.mark.parametrize("name", sorted(set(LOSSES) - set(ROW_LOSSES)))
    def test_losses_that_need_more_than_their_rows(self, name):
        settings = resolve_settings(loss=name)
        with pytest.raises(ConfigError, match=f"`loss` must be one of bpr, .* got '{name}'"):
            check_divisible(settings, 2)

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"loss": "infonce", "backbone": "lightgcn++"}, "`backbone` must be one of mf, light"),
            ({"loss": "infonce", "overrides": {"negatives": "in_batch"}}, "`negatives` must be"),
            ({"loss": "infonce", "overrides": {"weights": "random"}}, "`weights` must be 'unif"),
            ({"loss": "advinfonce", "overrides": {"hardness": "mlp"}}, "`hardness` must be 'embe"),
        ],
    )
    def test_settings(self, settings, says):
        with pytest.raises(ConfigError, match=says):
            check_divisible(resolve_settings(**settings), 2)

    def test_graphs_with_items_in_shards(self):
        check_divisible(resolve_settings(backbone="mf", loss="advinfonce"), 2, "torchrec")
        with pytest.raises(ConfigError, match="`backbone` must be mf with `tables` = 'torchrec'"):
            check_divisible(resolve_settings(backbone="lightgcn", loss="bpr"), 2, "torchrec")

    def test_no_workers(self):
        with pytest.raises(ConfigError, match="`workers` must be at least 1, got 0"):
            check_divisible(resolve_settings(), 0)

    def test_a_user_with_every_item(self):
        frame = pl.DataFrame({"user": ["a", "a", "b"], "item": [1, 2, 1]})
        with pytest.raises(DataError, match="user 'a' has interacted with all 2 items"):
            check_histories(Dataset.from_frame(frame))
