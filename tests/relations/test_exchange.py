"""Sums of sparse tables: rows or whole tables are sent, and the sum is that of one process."""

import pytest
import torch

from workers import Crew

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
