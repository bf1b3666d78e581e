"""Parquet logs: whole, or batch by batch where a log would not fit into memory as a frame."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from contrarec.data.columns import ROW, ColumnNames, clean_columns, resolve_columns
from contrarec.data.interactions import Interactions
from contrarec.data.lookup import Lookup
from contrarec.data.rows import RowBuilder, compiled_pays
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import DataError

STEPS = "contrarec.steps"
"""Key of the file's metadata under which it says what was done to the log, as a JSON list."""

_BATCH = 1 << 20  # rows in memory at a time
_MOST_BATCHES = 64  # of a log; longer ones get larger batches


def parquet_files(folder: Path) -> list[Path]:
    """Return the Parquet files in a folder and below it, ascending, but for hidden ones."""
    return [
        file
        for file in sorted(folder.rglob("*.parquet"))
        if not any(part.startswith(("_", ".")) for part in file.relative_to(folder).parts)
    ]


def read_parquet(path: Path, asked: ColumnNames) -> pl.DataFrame:
    """Read a log as a frame, as `read_log` returns it.

    Args:
        path: the file, or a folder of such files.
        asked: names of columns.

    Raises:
        DataError: the file, a column or a value is wrong; the message has the row number.
    """
    log = _ParquetLog.open(path, asked)
    with _blaming(path):
        frame = log.scan.collect()
    return log.clean(frame, 0)


def read_steps(path: Path) -> tuple[str, ...]:
    """Return what a file that this package wrote says was done to its log."""
    if path.suffix.lower() != ".parquet":
        return ()
    with _blaming(path):
        return tuple(json.loads(pl.read_parquet_metadata(path).get(STEPS, "[]")))


def write_log(frame: pl.DataFrame, path: Path, steps: Iterable[str] = ()) -> None:
    """Write a log as a Parquet file that says what was done to it."""
    frame.write_parquet(path, metadata={STEPS: json.dumps(list(steps), ensure_ascii=False)})


def stream_parquet(path: Path, asked: ColumnNames) -> Interactions | None:
    """Read a log in the memory of the result, of its distinct ids and of some batches.

    The ids are collected first; then the pairs of each user are counted, and at last each pair is
    written where it belongs.

    Args:
        path: the file, or a folder of such files.
        asked: names of columns.

    Returns:
        The interactions; None if the log is better read whole: it is small, there is no compiled
        code, or its times are texts, which only all together say what they are.

    Raises:
        DataError: the file, a column or a value is wrong; the message has the row number.
    """
    log = _ParquetLog.open(path, asked)
    with _blaming(path):
        schema = log.scan.collect_schema()
        if schema.get("time") == pl.String or not compiled_pays(log.height()):
            return None
        users, items = log.distinct("user"), log.distinct("item")
        find_user, find_item = Lookup(users), Lookup(items)
        counts = np.zeros(len(users), np.int64)
        for batch in log.batches("user"):
            np.add.at(counts, find_user(batch["user"]), 1)
        values = [role for role in ("time", "weight") if role in schema]
        kinds = log.clean(log.scan.head(0).collect(), 0)
        builder = RowBuilder(
            counts,
            time=kinds["time"].to_numpy().dtype if "time" in values else None,
            weighted="weight" in values,
        )
        for batch in log.batches(*schema):
            builder.add(
                find_user(batch["user"]),
                find_item(batch["item"]),
                **{role: batch[role].to_numpy() for role in values},
            )
    del find_user, find_item
    return Interactions(
        users=Vocabulary(users, distinct=True),
        items=Vocabulary(items, distinct=True),
        **builder.finish()._asdict(),
    )


@dataclass(frozen=True)
class _ParquetLog:
    """A log that has not been read yet."""

    path: Path
    roles: dict[str, str]
    """What each role's column is called in the file."""
    scan: pl.LazyFrame
    """A column for each role."""

    @classmethod
    def open(cls, path: Path, asked: ColumnNames) -> "_ParquetLog":
        with _blaming(path):
            files = parquet_files(path) if path.is_dir() else path
            scan = pl.scan_parquet(files, glob=False)
            names = scan.collect_schema().names()
        roles = resolve_columns(names, asked, f"{path}: ")
        return cls(path, roles, scan.select(pl.col(name).alias(r) for r, name in roles.items()))

    def height(self) -> int:
        """Count the rows, which the file's footer tells."""
        return int(self.scan.select(pl.len()).collect().item())

    def distinct(self, role: str) -> pl.Series:
        """Return the distinct ids, ascending; new ones pile up until it pays to merge them."""
        known: list[pl.Series] = []
        fresh: list[pl.Series] = []
        find: Lookup | None = None
        for batch in self.batches(role):
            ids = batch[role]
            fresh.append((find.missing(ids) if find else ids).unique())
            if not known or sum(map(len, fresh)) > max(len(known[0]) // 2, _BATCH):
                known, fresh = [pl.concat([*known, pl.concat(fresh).unique()])], []
                find = Lookup(known[0])
        del find
        frame = pl.concat([*known, *fresh]).unique().to_frame()
        return frame.lazy().sort(role).collect(engine="streaming")[role]

    def batches(self, *roles: str) -> Iterator[pl.DataFrame]:
        """Yield the rows in order, their columns brought to their types.

        Each batch is a query of its own: `collect_batches` reads ahead, which takes several times
        the memory. A row group larger than a batch is decoded once for each batch of it.
        """
        height = self.height()
        size = max(_BATCH, -(-height // _MOST_BATCHES))
        for start in range(0, height, size):
            yield self.clean(self.scan.select(roles).slice(start, size).collect(), start)

    def clean(self, frame: pl.DataFrame, start: int) -> pl.DataFrame:
        """Bring rows from `start` on to their types."""
        return clean_columns(
            frame.with_row_index(ROW, offset=start),
            {role: self.roles[role] for role in frame.columns},
            lambda row: f"{self.path}: row {row + 1}: ",
        )


@contextmanager
def _blaming(path: Path) -> Iterator[None]:
    try:
        yield
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not a sound Parquet file ({reason}).") from None
