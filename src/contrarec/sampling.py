"""Batches of (user, positive, negatives), drawn on the fly and the same for any thread count."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from contrarec.data.blocks import Block
from contrarec.data.interactions import Interactions
from contrarec.errors import DataError
from contrarec.kernels.dispatch import Backend, resolve
from contrarec.kernels.draws import draw_batch, draw_block, stream_key

Phase = Literal["min", "max"]


class Batch(NamedTuple):
    """One batch: `users [B]`, `items [B, 1 + N]`; the positive is column 0 of the items."""

    users: torch.Tensor
    items: torch.Tensor
    share: float = 1.0
    """Share of the step's rows that these are; the other workers of a team have the rest."""


class Sampler:
    """Draw the batches of an epoch from the training interactions.

    Every batch is a function of (seed, phase, epoch, step) alone, so training can stop after any
    step and go on later with the same batches. On a GPU they are drawn there, from a copy of the
    interactions that is made once, and are the same as on the CPU.

    Args:
        train: the interactions to learn from.
        batch_size: rows a batch.
        n_neg: negatives a row, uniform over the items outside the user's history.
        positives: `interaction` takes each interaction once an epoch, `user` takes each user
            equally often and then one of its items uniformly (what the authors' code does).
        drop_last: leave out the last batch of an epoch if it is not full (unless it is the only
            one).
        seen_only: draw no negative that has no interaction in `train` at all.
        seed: base of the random streams.
        device: where the batches go.
        backend: of the kernel that draws.
        block: the place of `train` in a larger log: only those rows of a batch are drawn whose user
            it has, by the indices of `train`. All blocks together give the batches of the whole.

    Raises:
        DataError: there is nothing to learn from, or a user has every item in its history.
        BackendError: the back end asked for is not there.
    """

    def __init__(
        self,
        train: Interactions,
        *,
        batch_size: int,
        n_neg: int,
        positives: Literal["interaction", "user"],
        drop_last: bool,
        seed: int,
        seen_only: bool = False,
        device: torch.device | str = "cpu",
        backend: Backend = "auto",
        block: Block | None = None,
    ) -> None:
        if train.nnz == 0:
            raise DataError("train: no interactions to learn from.")
        n_items, indices = train.n_items, train.indices
        self._items: torch.Tensor | None = None
        if seen_only and not train.item_counts.all():  # draws are among these, by their places
            seen = np.flatnonzero(train.item_counts)
            n_items, indices = len(seen), np.searchsorted(seen, indices).astype(np.int32)
            self._items = torch.from_numpy(seen).to(device)
        fullest = int(np.argmax(train.user_counts))
        if train.user_counts[fullest] >= n_items:
            raise DataError(
                f"train: user {train.users.ids[fullest]!r} has interacted with all {n_items} "
                "items, so no negative can be drawn; remove that user from train."
            )
        self._nnz = block.nnz if block else train.nnz
        self._batch_size = batch_size
        self._seed = seed
        self._device = torch.device(device)
        self._draw: Callable[..., tuple[Any, Any]]
        log: tuple[Any, ...] = (train.indptr, indices, np.flatnonzero(train.user_counts))
        options: dict[str, Any] = {
            "n_items": n_items,
            "n_neg": n_neg,
            "by_user": positives == "user",
        }
        if block:
            options |= {
                "first_row": block.first_row,
                "nnz": block.nnz,
                "first_active": block.first_active,
                "n_active": block.n_active,
            }
            self._draw = partial(draw_block, *log, backend=backend, **options)
        elif resolve(backend, torch.empty(0, device=self._device), gpu=True) == "triton":
            from contrarec.kernels.gpu import draws as gpu

            log = tuple(torch.tensor(part, device=self._device) for part in log)
            self._draw = partial(gpu.draw_batch, *log, **options)
        else:
            self._draw = partial(draw_batch, *log, backend=backend, **options)
        full = self._nnz // batch_size
        incomplete = self._nnz % batch_size > 0 and not drop_last
        self.n_batches = max(1, full + incomplete)

    def batches(self, epoch: int, phase: Phase = "min", first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from step `first` on.

        Args:
            epoch: number of the epoch; each has its own order, positives and negatives.
            phase: `min` or `max`: a pass of the adversary has a stream of its own.
            first: the step to start from.
        """
        key = stream_key(self._seed, ("min", "max").index(phase), epoch)
        for step in range(first, self.n_batches):
            start = step * self._batch_size
            rows = range(start, min(start + self._batch_size, self._nnz))
            users, items = self._draw(rows, key=key)
            places = torch.as_tensor(items, device=self._device)
            yield Batch(
                torch.as_tensor(users, device=self._device),
                places if self._items is None else self._items[places],
                len(users) / len(rows),
            )
