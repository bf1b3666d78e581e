"""Sums of sparse tables, and ranking of items in shards: what comes out is that of one process."""

import numpy as np
import pytest
import torch

from contrarec.distributed.shard_ranking import rank_shards
from contrarec.distributed.torchrec_tables import shard_rows
from contrarec.evaluation.ranking import DotScorer, top_k
from workers import Crew, tastes

TABLES = [
    ([0, 3, 8], [[1.0, 2.0], [3.0, 4.0], [0.0, 0.0]]),  # worker 0 touches row 8 with nothing
    ([3], [[10.0, 20.0]]),
    ([], []),
    ([0, 9], [[0.5, 0.5], [7.0, -7.0]]),
]


@pytest.fixture(scope="module")
def crew(tmp_path_factory):
    crew = Crew(tmp_path_factory.mktemp("crew"))
    yield crew
    crew.close()


def add_up(group, name):
    """Return the rows and values of the sum, in one worker."""
    import torch.distributed as dist

    from contrarec.distributed.exchange import Exchange

    exchange = Exchange(group)
    rows, values = TABLES[dist.get_rank(group)]
    index = torch.tensor(rows, dtype=torch.int64)
    table = torch.tensor(values, dtype=torch.float32).reshape(-1, 2)
    total = getattr(exchange, name)(index, table, 12)
    gathered = exchange.gather(index)
    return total.indices()[0], total.values(), total.shape, gathered


@pytest.mark.parametrize("name", ["add_up_rows", "add_up_table"])
def test_rows_that_anyone_touched_are_added_up(crew, name):
    sums = {
        1: ([0, 3, 8], [[1, 2], [3, 4], [0, 0]]),
        2: ([0, 3, 8], [[1, 2], [13, 24], [0, 0]]),
        4: ([0, 3, 8, 9], [[1.5, 2.5], [13, 24], [0, 0], [7, -7]]),
    }
    for n, (rows, values) in sums.items():
        answers = crew.run(add_up, n, name)
        for index, found, shape, gathered in answers:
            assert index.tolist() == rows
            assert found.tolist() == values
            assert shape == (12, 2)
            assert gathered.tolist() == [row for own, _ in TABLES[:n] for row in own]


def rank(group, users, candidates, tile):
    """Rank the users of one worker; of every second one, none."""
    from dataclasses import replace

    import torch.distributed as dist

    from contrarec.distributed import shard_ranking
    from contrarec.distributed.exchange import Exchange

    shard_ranking._USERS, shard_ranking._SCORES = tile
    exchange, test = Exchange(group), replace(tastes().valid, candidates=candidates)
    user_vectors, item_vectors = vectors()
    ends = [shard_rows(30, exchange.size, r) for r in range(exchange.size)]
    (first, last), lengths = ends[exchange.rank], [b - a for a, b in ends]
    own = users if dist.get_rank(group) % 2 == 0 else users[:0]
    scorer = DotScorer(user_vectors, item_vectors[first:last])
    return rank_shards(scorer, test, own, 7, exchange=exchange, lengths=lengths)


def vectors():
    rng = np.random.default_rng(1)
    draw = [torch.from_numpy(rng.integers(-2, 3, (n, 4))).float() for n in (40, 30)]
    return draw[0], draw[1]  # of small integers: many scores are equal


@pytest.mark.parametrize("candidates", [None, np.arange(1, 30, 3)])
@pytest.mark.parametrize("tile", [(1024, 1 << 21), (7, 21)])  # all at once; 7 users, 3 items
def test_items_in_shards_rank_as_the_whole_table(crew, candidates, tile):
    users = np.flatnonzero(np.diff(tastes().valid.truth.indptr))
    mask = tastes().valid.mask
    scorer = DotScorer(*vectors())
    whole, _ = top_k(scorer, users, 7, n_items=30, mask=mask, candidates=candidates)
    for n in (1, 2, 4):
        answers = crew.run(rank, n, users, candidates, tile)
        for worker, lists in enumerate(answers):
            expected = whole if worker % 2 == 0 else whole[:0]
            assert np.array_equal(lists, expected)
