"""What Ray runs over the files of a data set, and then over partitions of its users.

A partition is a range of user ids: of all ids together it has those between two of its neighbours'.
So partitions in order have the users in the order of a data set that is read whole. Rows are in
memory by batches of a file, and then by partition.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch

from contrarec.data.columns import ROW, ColumnNames, clean_columns, resolve_columns
from contrarec.data.interactions import Interactions
from contrarec.data.lookup import Lookup
from contrarec.data.rows import compiled_pays
from contrarec.data.vocabulary import Vocabulary
from contrarec.distributed.parquet_parts import blaming, file_system
from contrarec.tensorfile import load_tensors, save_tensors

SAMPLE = 256
"""User ids that a batch is asked for, from rows at equal distances."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the files of a data set are read."""

    where: str
    """The folder or address that has them."""
    columns: ColumnNames
    """Names of columns that were asked for."""
    batch_rows: int
    """Rows of a file in memory at a time."""
    scratch: Path
    """Where partitions are written."""

    def batches(self, file: str) -> Iterator[pl.DataFrame]:
        """Yield the rows of a file, with the columns `user` and `item`.

        Raises:
            DataError: it cannot be read, or a value is wrong; the message has the row number.
        """
        from pyarrow import Table
        from pyarrow.parquet import ParquetFile

        with blaming(file), file_system(self.where)[0].open_input_file(file) as stream:
            parquet = ParquetFile(stream)
            roles = resolve_columns(parquet.schema_arrow.names, self.columns, f"{file}: ")
            roles = {role: roles[role] for role in ("user", "item")}
            start = 0
            for batch in parquet.iter_batches(self.batch_rows, columns=[*roles.values()]):
                frame = pl.DataFrame(pl.from_arrow(Table.from_batches([batch])))
                named = frame.select(pl.col(name).alias(role) for role, name in roles.items())
                yield clean_columns(
                    named.with_row_index(ROW, offset=start),
                    roles,
                    lambda row: f"{file}: row {row + 1}: ",
                )
                start += len(frame)

    @property
    def items(self) -> Path:
        """Return where the ids of all items are."""
        return self.scratch / "items.parquet"

    def logs(self, partition: int) -> Path:
        """Return the file with the interactions of a partition."""
        return self.scratch / f"partition-{partition:05d}.safetensors"

    def ids(self, partition: int) -> Path:
        """Return the file with the user ids of a partition."""
        return self.scratch / f"partition-{partition:05d}.parquet"

    def incoming(self, partition: int) -> Path:
        """Return the folder where the rows of a partition come together."""
        return self.scratch / f"incoming-{partition:05d}"


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What was found in a file."""

    n_rows: int
    texts: tuple[bool, bool]
    """Whether there are user ids, and item ids, that are texts."""
    sample: pl.DataFrame
    """Some user ids, `id`, and for how many rows each of them stands, `weight`."""
    most_rows: int
    """The most that were in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class Partition:
    """What was made of the rows of a range of users."""

    n_users: int
    n_active: int
    """Users with interactions in train."""
    nnz: dict[str, int]
    """Interactions of each part."""
    duplicates: dict[str, int]
    """Repeated pairs that were collapsed."""
    unseen: dict[str, int]
    """Users with interactions in a part and none in train."""
    fullest: tuple[str | int, int]
    """The user with the most interactions in train, and how many."""
    n_rows: int
    """Rows that were in memory, repeated ones included."""


def survey(reading: Reading, files: list[str], out: Path) -> list[Survey]:
    """Look through files; write the distinct item ids of all of them.

    Args:
        reading: how.
        files: paths.
        out: where the item ids go.
    """
    found, items = [], pl.Series(dtype=pl.Int64)
    for file in files:
        sizes, samples, texts = [0], [], np.zeros(2, bool)
        for frame in reading.batches(file):
            sizes.append(len(frame))
            items = _together(items, frame["item"])
            texts |= [len(frame) > 0 and kind == pl.String for kind in frame.dtypes]
            samples.append(_sample(frame["user"]))
        found.append(
            Survey(
                n_rows=sum(sizes),
                texts=(bool(texts[0]), bool(texts[1])),
                sample=pl.concat(samples) if samples else _sample(pl.Series(dtype=pl.Int64)),
                most_rows=max(sizes),
            )
        )
    items.alias("id").to_frame().write_parquet(out)
    return found


def _sample(users: pl.Series) -> pl.DataFrame:
    some = users.gather_every(max(1, -(-len(users) // SAMPLE)))
    return some.alias("id").to_frame().with_columns(weight=pl.lit(len(users) / max(len(some), 1)))


def _together(known: pl.Series, more: pl.Series) -> pl.Series:
    """Return the distinct ids of both; texts if there are any."""
    fresh = more.unique()
    if not len(known) or not len(fresh):
        return fresh if len(fresh) else known
    if known.dtype != fresh.dtype:
        known, fresh = known.cast(pl.String), fresh.cast(pl.String)
    return pl.concat([known, fresh.alias(known.name)]).unique()


def scatter(reading: Reading, files: list[tuple[str, str]], lot: int, bounds: pl.Series) -> int:
    """Write the rows of files where their partitions find them, with items as indices.

    Args:
        reading: how.
        files: (part, path).
        lot: number of this call, for the names of what it writes.
        bounds: ids; partition p has the users from `bounds[p − 1]` on, below `bounds[p]`.

    Returns:
        The most rows that were in memory at a time.
    """
    from pyarrow.parquet import ParquetWriter

    items = pl.read_parquet(reading.items)["id"]
    find = Lookup(items) if compiled_pays(len(items)) else Vocabulary(items, distinct=True).index
    writers: dict[tuple[str, int], ParquetWriter] = {}
    most = 0
    for part, file in files:
        for frame in reading.batches(file):
            most = max(most, len(frame))
            users = frame["user"].cast(bounds.dtype)
            index = find(frame["item"].cast(items.dtype)).astype(np.int32)
            place = _partition_of(users, bounds)
            rows = pl.DataFrame({"user": users, "item": index, "partition": place})
            for (number,), own in rows.group_by("partition"):
                table = own.drop("partition").to_arrow()
                key = part, int(str(number))
                if key not in writers:
                    path = reading.incoming(key[1]) / f"{part}@{lot:05d}.parquet"
                    writers[key] = ParquetWriter(path, table.schema)
                writers[key].write_table(table)
    for writer in writers.values():
        writer.close()
    return most


def _partition_of(users: pl.Series, bounds: pl.Series) -> np.ndarray:
    """Return the partition of each user: how many of the ascending bounds are not above it."""
    if not len(bounds):
        return np.zeros(len(users), np.int32)
    return bounds.search_sorted(users, side="right").cast(pl.Int32).to_numpy()


def settle(reading: Reading, partition: int, parts: list[str], n_items: int) -> Partition:
    """Number the users of a partition, in order of their ids, and write its interactions.

    Args:
        reading: how.
        partition: which.
        parts: names of all parts.
        n_items: items of the whole data set.
    """
    folder = reading.incoming(partition)
    rows = {
        part: [pl.read_parquet(file) for file in sorted(folder.glob(f"{part}@*.parquet"))]
        for part in parts
    }
    frames = {part: pl.concat(own) for part, own in rows.items() if own}
    users = Vocabulary.of(pl.concat([frame["user"] for frame in frames.values()]))
    items = Vocabulary(pl.int_range(n_items, eager=True), distinct=True)
    n_rows = sum(map(len, frames.values()))
    logs, tensors = {}, {}
    for part in parts:
        frame = frames.get(part, pl.DataFrame(schema={"user": users.ids.dtype, "item": pl.Int32}))
        logs[part] = Interactions.from_pairs(
            users.index(frame["user"]), frame["item"].to_numpy(), users=users, items=items
        )
        tensors[f"{part}.indptr"] = torch.from_numpy(logs[part].indptr)
        tensors[f"{part}.indices"] = torch.from_numpy(logs[part].indices)
    save_tensors(reading.logs(partition), tensors, {})
    users.ids.to_frame().write_parquet(reading.ids(partition))
    counts = logs["train"].user_counts
    fullest = int(counts.argmax())
    return Partition(
        n_users=len(users),
        n_active=int(np.count_nonzero(counts)),
        nnz={part: log.nnz for part, log in logs.items()},
        duplicates={part: log.n_duplicates for part, log in logs.items()},
        unseen={
            part: int(((log.user_counts > 0) & (counts == 0)).sum()) for part, log in logs.items()
        },
        fullest=(users.ids[fullest], int(counts[fullest])),
        n_rows=n_rows,
    )


def rows_of(reading: Reading, partition: int, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return `indptr [n + 1]` and `indices` of a part, for the users of a partition."""
    tensors, _ = load_tensors(reading.logs(partition))
    return tensors[f"{part}.indptr"].numpy(), tensors[f"{part}.indices"].numpy()
