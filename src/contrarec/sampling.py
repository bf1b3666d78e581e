"""Batches of (user, positive, negatives), drawn on the fly and the same for any thread count."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch

from contrarec.data.interactions import Interactions
from contrarec.errors import DataError
from contrarec.kernels.draws import draw_batch, stream_key

Phase = Literal["min", "max"]


class Batch(NamedTuple):
    """One batch: `users [B]`, `items [B, 1 + N]`; the positive is column 0 of the items."""

    users: torch.Tensor
    items: torch.Tensor


class Sampler:
    """Draw the batches of an epoch from the training interactions.

    Every batch is a function of (seed, phase, epoch, step) alone, so training can stop after any
    step and go on later with the same batches.

    Args:
        train: the interactions to learn from.
        batch_size: rows a batch.
        n_neg: negatives a row, uniform over the items outside the user's history.
        positives: `interaction` takes each interaction once an epoch, `user` takes each user
            equally often and then one of its items uniformly (what the authors' code does).
        drop_last: leave out the last batch of an epoch if it is not full (unless it is the only
            one).
        seed: base of the random streams.
        device: where the batches go.

    Raises:
        DataError: there is nothing to learn from, or a user has every item in its history.
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
        device: torch.device | str = "cpu",
    ) -> None:
        if train.nnz == 0:
            raise DataError("train: no interactions to learn from.")
        fullest = int(np.argmax(train.user_counts))
        if train.user_counts[fullest] >= train.n_items:
            raise DataError(
                f"train: user {train.users.ids[fullest]!r} has interacted with all {train.n_items} "
                "items, so no negative can be drawn; remove that user from train."
            )
        self._train = train
        self._active = np.flatnonzero(train.user_counts)
        self._batch_size = batch_size
        self._n_neg = n_neg
        self._by_user = positives == "user"
        self._seed = seed
        self._device = torch.device(device)
        full = train.nnz // batch_size
        partial = train.nnz % batch_size > 0 and not drop_last
        self.n_batches = max(1, full + partial)

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
            users, items = draw_batch(
                self._train.indptr,
                self._train.indices,
                self._active,
                range(start, min(start + self._batch_size, self._train.nnz)),
                n_items=self._train.n_items,
                n_neg=self._n_neg,
                by_user=self._by_user,
                key=key,
            )
            yield Batch(
                torch.from_numpy(users).to(self._device), torch.from_numpy(items).to(self._device)
            )
