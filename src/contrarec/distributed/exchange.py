"""What the workers send each other, and how long that takes.

Every method is called by all workers in the same order. Sums come out the same, bit for bit, on
all of them, so that the copies of the item table never drift apart.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
import torch.distributed as dist

Choice = Literal["auto", "dense", "rows"]

_ID_BYTES = 8


def rows_pay(*, n_rows: int, dim: int, n_pairs: int, n_workers: int, n_bytes: int = 4) -> bool:
    """Whether sending the rows that a step touches takes fewer bytes than sending the whole table.

    A worker receives what all the others touched, with row numbers; of the whole table it receives,
    and sends, nearly twice the size. Pairs are taken to fall on rows evenly.

    Args:
        n_rows: rows of the table.
        dim: length of a row.
        n_pairs: user–item pairs of a step, of all workers together.
        n_workers: workers.
        n_bytes: of a number.

    >>> rows_pay(n_rows=1_000_000, dim=64, n_pairs=2048 * 65, n_workers=4)
    True
    >>> rows_pay(n_rows=10_000, dim=64, n_pairs=2048 * 65, n_workers=4)
    False
    """
    touched = -n_rows * math.expm1(-n_pairs / n_workers / max(n_rows, 1))  # by one worker
    return n_workers * touched * (dim * n_bytes + _ID_BYTES) < 2 * n_rows * dim * n_bytes


class Exchange:
    """The collective operations of one worker.

    Args:
        group: the process group; None for the default one.

    Attributes:
        group: the process group.
        rank: number of this worker.
        size: number of workers.
        seconds: time spent in exchanges so far, which includes waiting for slower workers.
        n_bytes: received so far (a sum counts twice the size of what is added up).
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group or dist.group.WORLD
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self.seconds, self.n_bytes = 0.0, 0

    def add_up(self, values: torch.Tensor) -> torch.Tensor:
        """Replace `values` by the sum over the workers, and return them."""
        if self.size > 1:
            with self.timed(2 * values.nbytes):
                dist.all_reduce(values, group=self.group)
        return values

    def highest(self, values: torch.Tensor) -> torch.Tensor:
        """Replace `values` by the largest of the workers, and return them."""
        if self.size > 1:
            with self.timed(2 * values.nbytes):
                dist.all_reduce(values, dist.ReduceOp.MAX, group=self.group)
        return values

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """Return the workers' values `[n, …]`, one after the other; n may differ."""
        return torch.cat(self._parts(values, self._lengths(values)))

    def add_up_rows(self, rows: torch.Tensor, values: torch.Tensor, n_rows: int) -> torch.Tensor:
        """Return the sum over the workers of tables that are zero but for some rows.

        The workers send their rows.

        Args:
            rows: `[r]` numbers of the rows, ascending.
            values: `[r, dim]`.
            n_rows: of the table.

        Returns:
            A row-sparse `[n_rows, dim]`, coalesced.
        """
        lengths = self._lengths(rows)
        everyones = self._parts(rows, lengths)
        touched = torch.zeros(n_rows, dtype=torch.bool, device=rows.device)
        for theirs in everyones:
            touched[theirs] = True
        union = touched.nonzero()[:, 0]
        place = torch.cumsum(touched, 0) - 1  # of each row within the union
        total = values.new_zeros(len(union), values.shape[1])
        for theirs, part in zip(everyones, self._parts(values, lengths), strict=True):
            total[place[theirs]] += part  # a worker has each row once
        return row_sparse(union, total, n_rows)

    def add_up_table(self, rows: torch.Tensor, values: torch.Tensor, n_rows: int) -> torch.Tensor:
        """Return what `add_up_rows` does; the workers send whole tables."""
        table = values.new_zeros(n_rows, values.shape[1] + 1)
        table[rows, :-1] = values
        table[rows, -1] = 1  # touched, though the values may be zero
        self.add_up(table)
        union = table[:, -1].nonzero()[:, 0]
        return row_sparse(union, table[union, :-1], n_rows)

    def in_turn(self, values: torch.Tensor, lengths: Sequence[int]) -> Iterator[torch.Tensor]:
        """Yield the values of each worker `[n, …]`, whose n are known, those of one at a time."""
        for rank, length in enumerate(lengths):
            theirs = values
            if rank != self.rank:
                theirs = values.new_empty(length, *values.shape[1:])
            if self.size > 1:
                with self.timed(theirs.nbytes):
                    dist.broadcast(theirs, group=self.group, group_src=rank)
            yield theirs

    def wait(self) -> None:
        """Wait until all workers are here."""
        self.add_up(torch.zeros(1, device=self._device))

    def _lengths(self, values: torch.Tensor) -> list[int]:
        """Return how many values each worker has."""
        counts = torch.zeros(self.size, dtype=torch.int64, device=values.device)
        counts[self.rank] = len(values)
        lengths: list[int] = self.add_up(counts).tolist()
        return lengths

    def _parts(self, values: torch.Tensor, lengths: list[int]) -> list[torch.Tensor]:
        """Return the values of each worker."""
        if self.size == 1:
            return [values]
        padded = values.new_zeros((max(lengths), *values.shape[1:]))
        padded[: len(values)] = values
        parts = [torch.empty_like(padded) for _ in lengths]
        with self.timed(padded.nbytes * self.size):
            dist.all_gather(parts, padded, group=self.group)
        return [part[:n] for part, n in zip(parts, lengths, strict=True)]

    @property
    def _device(self) -> torch.device:
        on_gpu = dist.get_backend(self.group) == "nccl"
        return torch.device("cuda" if on_gpu else "cpu")

    @contextmanager
    def timed(self, n_bytes: int) -> Iterator[None]:
        """Count what the block takes as an exchange in which `n_bytes` are received."""
        started = time.perf_counter()
        yield
        if self._device.type == "cuda":
            torch.cuda.synchronize()  # else the time would be that of asking for it
        self.seconds += time.perf_counter() - started
        self.n_bytes += n_bytes


def row_sparse(rows: torch.Tensor, values: torch.Tensor, n_rows: int) -> torch.Tensor:
    """Return `[n_rows, dim]` that is zero but for some rows: `rows [r]` ascending, `[r, dim]`."""
    size = (n_rows, values.shape[1])
    return torch.sparse_coo_tensor(
        rows[None], values, size, is_coalesced=True, check_invariants=False
    )
