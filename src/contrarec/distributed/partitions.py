"""Partitions of users in order: what is known of the whole, without having the whole in memory."""

from collections.abc import Iterator
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np
import polars as pl

from contrarec.data.blocks import Block, check_blocks, spread_cuts
from contrarec.data.fingerprint import fingerprint
from contrarec.data.rows import count
from contrarec.data.vocabulary import Vocabulary
from contrarec.distributed.scatter import Partition, Reading, rows_of
from contrarec.distributed.shards import write_rows
from contrarec.files import replacing
from contrarec.runs import id_table


class Partitions:
    """The users of a data set, by ranges of their ids; one range at a time is looked at.

    Args:
        reading: where they are.
        numbers: of those that have users, ascending.
        partitions: what is in each of them.
    """

    def __init__(self, reading: Reading, numbers: list[int], partitions: list[Partition]) -> None:
        self.reading, self.numbers, self.each = reading, numbers, partitions
        self.first_user = [0, *accumulate(part.n_users for part in partitions)]
        """`[n + 1]`, users before each partition, and all users."""
        self._first_row = [0, *accumulate(part.nnz["train"] for part in partitions)]
        self._first_active = [0, *accumulate(part.n_active for part in partitions)]

    @cached_property
    def items(self) -> pl.Series:
        """The ids of all items, ascending."""
        return pl.read_parquet(self.reading.items)["id"]

    @property
    def parts(self) -> list[str]:
        """Names of the parts of the data set."""
        return list(self.each[0].nnz)

    @property
    def nnz(self) -> int:
        """Interactions of train."""
        return self._first_row[-1]

    @property
    def n_users(self) -> int:
        """Users of all parts together."""
        return self.first_user[-1]

    @cached_property
    def item_counts(self) -> dict[str, np.ndarray]:
        """`[n_items]` interactions of each item, by part."""
        n_items = len(self.items)
        totals = {part: np.zeros(n_items, np.int64) for part in self.parts}
        for number in self.numbers:
            for part, total in totals.items():
                total += count(rows_of(self.reading, number, part)[1], n_items)
        return totals

    def users(self) -> Iterator[pl.Series]:
        """Yield the ids of all users, ascending."""
        for number in self.numbers:
            yield pl.read_parquet(self.reading.ids(number))["id"]

    def indptr(self) -> Iterator[np.ndarray]:
        """Yield the row pointer of train, `[n_users + 1]` in all."""
        yield np.zeros(1, np.int64)
        for place, number in enumerate(self.numbers):
            yield rows_of(self.reading, number, "train")[0][1:] + self._first_row[place]

    def indices(self) -> Iterator[np.ndarray]:
        """Yield the items of train, `[nnz]` in all."""
        for number in self.numbers:
            yield rows_of(self.reading, number, "train")[1]

    def fingerprint(self) -> str:
        """Return the fingerprint of the data set, as one that is read whole has it."""
        return fingerprint(self.users, lambda: [self.items], self.indptr, self.indices)

    def write_ids(self, path: Path) -> None:
        """Write what `runs.write_ids` would."""
        from pyarrow.parquet import ParquetWriter

        items = id_table("item", Vocabulary(self.items, distinct=True), 0).to_arrow()
        with replacing(path) as temporary, ParquetWriter(temporary, items.schema) as writer:
            for first, ids in zip(self.first_user, self.users(), strict=False):
                own = id_table("user", Vocabulary(ids, distinct=True), first)
                writer.write_table(own.to_arrow())
            writer.write_table(items)

    def cut_points(self, n_blocks: int) -> list[int]:
        """Return where blocks start and end, as `contrarec.data.blocks.cut_points` does.

        Raises:
            ConfigError: there are fewer users with interactions than blocks.
        """
        n_active = self._first_active[-1]
        check_blocks(n_blocks, n_active)
        wanted = self.nnz * np.arange(1, n_blocks) / n_blocks
        cuts = []
        for rows in wanted:
            place = int(np.searchsorted(self._first_row[1:], rows))
            counts = self._user_counts(place)
            ends = self._first_row[place] + np.cumsum(counts[counts > 0])
            cuts.append(self._first_active[place] + int(np.searchsorted(ends, rows)) + 1)
        users = [self._user_of(int(cut)) for cut in spread_cuts(np.array(cuts, np.int64), n_active)]
        return [0, *users, self.n_users]

    def _user_of(self, active: int) -> int:
        """Return the index of the user before whom so many have interactions in train."""
        place = int(np.searchsorted(self._first_active, active, side="right")) - 1
        own = np.flatnonzero(self._user_counts(place))
        return self.first_user[place] + int(own[active - self._first_active[place]])

    def _user_counts(self, place: int) -> np.ndarray:
        return np.diff(rows_of(self.reading, self.numbers[place], "train")[0])

    def block(self, first: int) -> Block:
        """Describe the block that starts with a user."""
        place = int(np.searchsorted(self.first_user, first, side="right")) - 1
        counts = self._user_counts(place)[: first - self.first_user[place]]
        return Block(
            first_user=first,
            n_users=self.n_users,
            first_row=self._first_row[place] + int(counts.sum()),
            nnz=self.nnz,
            first_active=self._first_active[place] + int(np.count_nonzero(counts)),
            n_active=self._first_active[-1],
            item_counts=self.item_counts["train"],
        )

    def pieces(self, first: int, last: int) -> list[tuple[int, int, int]]:
        """Return which partitions have the users `first … last − 1`: number, and users of it."""
        found = []
        for place, number in enumerate(self.numbers):
            start, stop = self.first_user[place], self.first_user[place + 1]
            low, high = max(first, start), min(last, stop)
            if low < high:
                found.append((number, low - start, high - start))
        return found


def gather_rows(
    reading: Reading, folder: Path, first: int, pieces: list[tuple[int, int, int]], parts: list[str]
) -> int:
    """Write the rows of one worker's users, as `contrarec.distributed.shards` has them.

    Args:
        reading: where the partitions are.
        folder: the worker's.
        first: its first user.
        pieces: what `Partitions.pieces` returns.
        parts: names of all parts.

    Returns:
        The most rows that were in memory.
    """
    most = 0
    for part in parts:
        users, items, start = [], [], first
        for number, low, high in pieces:
            indptr, indices = rows_of(reading, number, part)
            users.append(
                np.repeat(np.arange(start, start + high - low), np.diff(indptr[low : high + 1]))
            )
            items.append(indices[indptr[low] : indptr[high]].copy())
            start += high - low
        write_rows(folder, part, np.concatenate(users), np.concatenate(items))
        most = max(most, sum(map(len, items)))
    return most
