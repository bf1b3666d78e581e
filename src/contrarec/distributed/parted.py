"""A data set in parts is read by many processes, none of which has all its rows.

First the files are surveyed: the distinct items, and a sample of user ids whose quantiles bound the
partitions. Then rows go to their partitions, partitions number their users, and the numbers add up.
The driver goes through partitions one at a time; what is as long as the items, it holds whole.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from contrarec import runs
from contrarec.data.vocabulary import Vocabulary
from contrarec.distributed.parquet_parts import PartedData
from contrarec.distributed.partitions import Partitions, gather_rows
from contrarec.distributed.refusals import check_fullest
from contrarec.distributed.scatter import Reading, Survey, scatter, settle, survey
from contrarec.distributed.shards import part_folder, write_about
from contrarec.settings import Settings
from contrarec.tensorfile import InPieces

BATCH_ROWS = 1 << 20
PARTITION_ROWS = 1 << 22
_LOTS = 64  # of files; a lot is read by one task

Run = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], list[Any]]
"""Calls a function with each of several tuples of arguments, and returns the answers."""


class Parted:
    """A data set in partitions on disk; see `contrarec.distributed.sources.Source`.

    Args:
        data: where the files are.
        scratch: a folder for partitions, which all machines see; what it held is replaced.
        n_workers: there are about as many partitions, or more.
        run: runs tasks.
        batch_rows: rows of a file in memory at a time.
        partition_rows: about how many a partition gets.

    Raises:
        DataError: a file cannot be read or a value is wrong, there is nothing to learn from, or no
            negative can be drawn for a user.
    """

    def __init__(
        self,
        data: PartedData,
        scratch: Path,
        n_workers: int,
        run: Run,
        *,
        batch_rows: int = BATCH_ROWS,
        partition_rows: int = PARTITION_ROWS,
    ) -> None:
        started = time.perf_counter()
        self._data, self._run = data, run
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        reading = Reading(
            where=data.path, columns=data.columns, batch_rows=batch_rows, scratch=scratch
        )
        surveys = self._survey(reading)
        n_rows = sum(found.n_rows for found in surveys)
        bounds = bounds_of(surveys, max(n_workers, -(-n_rows // partition_rows)))
        most_rows = max(*(found.most_rows for found in surveys), self._scatter(reading, bounds))
        self._known = self._settle(reading, len(bounds) + 1)
        self._candidates, self.notes = self._protocol()
        self.about = runs.RunData(
            name=data.name, path=data.path, fingerprint=self._known.fingerprint(), frame="polars"
        )
        self.account: dict[str, Any] = {
            "reading": {
                "files": sum(map(len, data.files.values())),
                "rows": n_rows,
                "partitions": len(self._known.numbers),
                "most_rows": max(most_rows, *(part.n_rows for part in self._known.each)),
                "seconds": time.perf_counter() - started,
            }
        }

    def begin(self, folder: Path, settings: Settings) -> None:
        """Begin a run: settings, ids, history."""
        known = self._known
        history = {
            "indptr": InPieces(
                torch.int64, (known.n_users + 1,), lambda: map(torch.from_numpy, known.indptr())
            ),
            "indices": InPieces(
                torch.int32, (known.nnz,), lambda: map(torch.from_numpy, known.indices())
            ),
        }
        runs.begin_with(folder, settings, self.about, known.write_ids, history)

    def cut_points(self, n_workers: int) -> list[int]:
        """Return where the blocks of users start and end."""
        return self._known.cut_points(n_workers)

    def write_blocks(self, folder: Path, n_workers: int) -> None:
        """Divide the data among workers; what the folder held is replaced."""
        known = self._known
        shutil.rmtree(folder, ignore_errors=True)
        jobs = []
        for rank, (first, last) in enumerate(pairwise(self.cut_points(n_workers))):
            part = part_folder(folder, rank)
            jobs.append((known.reading, part, first, known.pieces(first, last), known.parts))
            block = known.block(first)
            write_about(part, block, last, known.parts, self._candidates, self._data.name)
        found = self.account["reading"]
        found["most_rows"] = max(found["most_rows"], *self._run(gather_rows, jobs))
        shutil.rmtree(known.reading.scratch)

    def _survey(self, reading: Reading) -> list[Survey]:
        """Look through all files, and write the ids of all items."""
        files = list(chain.from_iterable(self._data.files.values()))
        found, paths = [], []
        for number, lot in enumerate(_lots(files)):
            paths.append(reading.scratch / f"items-{number:05d}.parquet")
            found.append((reading, lot, paths[-1]))
        surveys = list(chain.from_iterable(self._run(survey, found)))
        kind = pl.String if any(found.texts[1] for found in surveys) else pl.Int64
        items = pl.Series("id", dtype=kind)
        for path in paths:
            more = pl.read_parquet(path)["id"].cast(kind)
            items = pl.concat([items, more]).unique()
            path.unlink()
        items.sort().to_frame().write_parquet(reading.items)
        return surveys

    def _scatter(self, reading: Reading, bounds: pl.Series) -> int:
        """Write all rows where their partitions find them; return how many were in memory."""
        n = len(bounds) + 1
        for number in range(n):
            reading.incoming(number).mkdir()
        files = [(part, file) for part, found in self._data.files.items() for file in found]
        lots = enumerate(_lots(files))
        calls = [(reading, lot, number, bounds) for number, lot in lots]
        most: int = max(self._run(scatter, calls))
        return most

    def _settle(self, reading: Reading, n: int) -> Partitions:
        """Number the users of all partitions."""
        numbers = [n for n in range(n) if any(reading.incoming(n).iterdir())]
        n_items = len(pl.read_parquet(reading.items))
        parts = list(self._data.files)
        settled = self._run(settle, [(reading, n, parts, n_items) for n in numbers])
        for number in range(n):
            shutil.rmtree(reading.incoming(number))
        if settled:
            user, n_rows = max((part.fullest for part in settled), key=lambda user: user[1])
            check_fullest(user, n_rows, n_items)
        else:
            check_fullest("", 0, n_items)
        return Partitions(reading, numbers, settled)

    def _protocol(self) -> tuple[np.ndarray | None, tuple[str, ...]]:
        """Return which items may be ranked, and what a reader of results should know."""
        known, excluded = self._known, self._data.not_candidates
        candidates = None
        notes = [
            f"{part}: {n} repeated pairs collapsed"
            for part in known.parts
            if (n := sum(each.duplicates[part] for each in known.each))
        ]
        if excluded is not None:
            places = Vocabulary(known.items, distinct=True).index(excluded)
            candidates = np.setdiff1d(np.arange(len(known.items), dtype=np.int32), places)
            notes.append(
                f"{len(known.items) - len(candidates)} items are not candidates "
                f"({(places < 0).sum()} more are not in the data)"
            )
        notes += [f"{file}: no part, ignored" for file in self._data.ignored]
        counts = known.item_counts
        for part in known.parts:
            users = sum(each.unseen[part] for each in known.each)
            items = int(((counts[part] > 0) & (counts["train"] == 0)).sum())
            if users or items:
                notes.append(
                    f"{part}: {users} users and {items} items without training interactions"
                )
        return candidates, tuple(notes)


def bounds_of(surveys: Iterable[Survey], n: int) -> pl.Series:
    """Return ascending user ids that divide the rows into n partitions of about equal size.

    Args:
        surveys: of all files.
        n: partitions wanted; there are fewer where a user has more rows than one should get.

    Returns:
        Distinct ids, fewer than n.
    """
    found = list(surveys)
    kind = pl.String if any(one.texts[0] for one in found) else pl.Int64
    sample = pl.concat([one.sample.cast({"id": kind}) for one in found]).sort("id")
    ends = sample["weight"].cum_sum().to_numpy()
    if not len(ends):
        return pl.Series("id", dtype=kind)
    places = np.searchsorted(ends, ends[-1] * np.arange(1, n) / n)
    return sample["id"].gather(places).unique().sort()


def _lots(files: list[Any]) -> list[list[Any]]:
    """Deal files out into lots."""
    n = min(len(files), _LOTS)
    return [files[number::n] for number in range(n)]
