"""Negatives that the rows of a batch share, in place of those drawn for each row.

`in_batch` takes the positives of the batch, `all` the whole catalogue. Either way the scores are
one matrix product, and `neg_log_weight` says what each negative weighs:

- `-inf` for what is in the row's history;
- in the batch, `-log(n_items · q)` with q the probability that a positive is this item. The sum
  over the batch then estimates that over as many items drawn uniformly (logQ correction).
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from contrarec.config import TrainingConfig
from contrarec.data.interactions import Interactions
from contrarec.errors import ConfigError
from contrarec.losses import Loss
from contrarec.sampling import Batch

LIMIT = 2**31
"""Bytes that the matrices of a step may take."""
_PAIR = 32  # bytes a pair: scores, weights, logits and their gradients, ids


class SharedNegatives:
    """The negatives of a batch, the same for every row but for its history.

    Args:
        train: the training interactions.
        config: `negatives` is `in_batch` or `all`.
        loss: has to weigh its negatives.
        device: where the batches are.
        seen_only: `all` is every item that has an interaction in `train`.

    Raises:
        ConfigError: the loss does not weigh negatives, or a step would take more than `LIMIT`.
    """

    def __init__(
        self,
        train: Interactions,
        config: TrainingConfig,
        loss: Loss,
        device: torch.device,
        *,
        seen_only: bool = False,
    ) -> None:
        kind = config.negatives
        items = np.flatnonzero(train.item_counts) if seen_only else np.arange(train.n_items)
        n_items = len(items)
        if not loss.weighs_negatives:
            raise ConfigError(
                f"`negatives` must be 'sampled' with {type(loss).__name__}, whose formula has no "
                f"weights for negatives, got {kind!r}."
            )
        n_rows = min(config.batch_size, train.nnz)
        n_columns = n_rows if kind == "in_batch" else n_items
        size = n_rows * n_columns * _PAIR
        if size > LIMIT:
            raise ConfigError(
                f"`negatives` = {kind!r} would take about {size / 2**30:.1f} GiB for steps of "
                f"{n_rows} × {n_columns} scores, and the limit is {LIMIT / 2**30:.0f} GiB: "
                f"lower `batch_size`, got {config.batch_size}, or take 'sampled'."
            )
        self._indptr = torch.as_tensor(train.indptr, device=device)
        self._indices = torch.as_tensor(train.indices, device=device).long()
        if kind == "all":
            self._items: torch.Tensor | None = torch.from_numpy(items).to(device)
            log_weight = torch.zeros(train.n_items)
        else:
            self._items = None
            share = positive_share(train, by_user=config.positives == "user")
            log_weight = -torch.from_numpy(n_items * share).log().float()
        self._log_weight = log_weight.to(device)

    def context(self, batch: Batch) -> dict[str, Any]:
        """Return `neg_items [B, N]` and `neg_log_weight [B, N]`.

        In the batch, a row's own positive gives its place to the one negative that was drawn for
        the row. It counts only in rows that have no other.
        """
        columns = self._columns(batch)
        known = self.known(batch.users, columns)  # [B, N]
        weight = torch.where(known, -torch.inf, self._log_weight[columns])
        neg_items = columns.expand_as(known)
        if self._items is None:
            weight.diagonal()[known.all(1)] = 0.0
            neg_items = neg_items.diagonal_scatter(batch.items[:, 1])
        return {"neg_items": neg_items, "neg_log_weight": weight}

    def scores(
        self,
        vectors: tuple[torch.Tensor, torch.Tensor],
        batch: Batch,
        drawn: torch.Tensor,
        *,
        cosine: bool,
        sparse_grad: bool = False,
    ) -> torch.Tensor:
        """Return the scores of `context`'s negatives `[B, N]`.

        Args:
            vectors: users `[n_users, dim]` and items `[n_items, dim]`.
            batch: its users and positives.
            drawn: `[B, 1]` scores of the negatives that were drawn.
            cosine: normalise both vectors.
            sparse_grad: give row-sparse gradients.
        """
        users = F.embedding(batch.users, vectors[0], sparse=sparse_grad)  # [B, dim]
        items = F.embedding(self._columns(batch), vectors[1], sparse=sparse_grad)  # [N, dim]
        if cosine:
            users, items = F.normalize(users), F.normalize(items)
        scores = users @ items.T
        return scores if self._items is not None else scores.diagonal_scatter(drawn[:, 0])

    def known(self, users: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Return whether a user's history has an item, `[B, N]`, by a search for each history item.

        Args:
            users: `[B]`
            columns: `[N]` items, in any order and any number of times.
        """
        counts = self._indptr[users + 1] - self._indptr[users]
        rows, places = _spread(self._indptr[users], counts)
        items = self._indices[places]  # of all histories, one after the other
        ordered, order = columns.sort()
        first = torch.searchsorted(ordered, items)
        last = torch.searchsorted(ordered, items, right=True)
        found, places = _spread(first, last - first)
        known = torch.zeros(len(users), len(columns), dtype=torch.bool, device=users.device)
        known[rows[found], order[places]] = True
        return known

    def _columns(self, batch: Batch) -> torch.Tensor:
        return batch.items[:, 0] if self._items is None else self._items


def positive_share(train: Interactions, *, by_user: bool) -> np.ndarray:
    """Return how often an item is the positive of a row, by item, adding up to 1.

    Args:
        train: the training interactions.
        by_user: each user equally often, instead of each interaction; see
            `TrainingConfig.positives`.
    """
    if not by_user:
        return train.item_counts / train.nnz
    counts = train.user_counts
    share = np.bincount(train.indices, 1 / counts[train.rows], train.n_items)
    return share / np.count_nonzero(counts)


def _spread(starts: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Number the ranges `starts[i] … starts[i] + counts[i] − 1`: each one's i, and its numbers."""
    which = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    within = torch.arange(len(which), device=counts.device) - (counts.cumsum(0) - counts)[which]
    return which, starts[which] + within
