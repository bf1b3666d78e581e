"""The training interactions as a loss holds them: draws from histories, and their scores.

Draws are hashes of (key, stream, row, position). The key is drawn once and kept in a checkpoint;
the stream is a number that the loss counts up. So they are the same after a stop and a resumption,
on any device and for any number of threads.
"""

import torch
from torch import nn

from contrarec.errors import ConfigError
from contrarec.kernels.scores import sampled_scores
from contrarec.losses.base import History, Tables
from contrarec.losses.hashing import MASK, mix

_CHUNK = 2**18  # interactions whose users' vectors are gathered at a time


class Histories(nn.Module):
    """Training interactions on the loss's device.

    Args:
        history: the interactions.
        n_items: size of the catalogue.
        generator: draws the key.

    Raises:
        ConfigError: one of the first two is missing.
    """

    indptr: torch.Tensor
    items: torch.Tensor
    key: torch.Tensor

    def __init__(
        self, history: History | None, n_items: int | None, generator: torch.Generator
    ) -> None:
        super().__init__()
        if history is None or n_items is None:
            raise ConfigError("`history` and `n_items` must be given to a loss that draws from it.")
        self.n_items = n_items
        # not in a checkpoint: they come with the data
        for name, array in (("indptr", history.indptr), ("items", history.indices)):
            self.register_buffer(name, torch.as_tensor(array).long(), persistent=False)
        self.register_buffer("key", torch.randint(MASK, (), generator=generator))

    @property
    def counts(self) -> torch.Tensor:
        """Items per user, `[n_users]`."""
        return self.indptr.diff()

    @property
    def users(self) -> torch.Tensor:
        """The user of each interaction, `[nnz]`."""
        return torch.arange(len(self.counts), device=self.indptr.device).repeat_interleave(
            self.counts
        )

    def positives(self, users: torch.Tensor, n: int, stream: torch.Tensor | int) -> torch.Tensor:
        """Draw `[B, n]` items of each row's user, uniformly and with replacement.

        Every user must have a history. A user that occurs twice gets other items the second time.
        """
        rows = torch.arange(len(users), device=users.device)
        start, size = self.indptr[users], self.counts[users]
        place = self._below(size, rows, n, stream)
        return self.items[start[:, None] + place]

    def negatives(
        self, users: torch.Tensor, n: int, stream: torch.Tensor | int, gaps: torch.Tensor
    ) -> torch.Tensor:
        """Draw `[B, n]` items outside each user's history, uniformly and with replacement.

        A user gets the same items whoever else is asked for. `gaps` is what `gaps()` returns.
        """
        start, size = self.indptr[users], self.counts[users]
        rank = self._below(self.n_items - size, users, n, stream)
        # the item of a rank is the rank plus the number of history items at or below it
        place = torch.searchsorted(gaps, rank + users[:, None] * self.n_items, right=True)
        return rank + place - start[:, None]

    def gaps(self) -> torch.Tensor:
        """Return for each interaction how many items outside the history lie below it, `[nnz]`.

        Offset by the user times `n_items`, so that they ascend from end to end.
        """
        users = self.users
        place = torch.arange(len(users), device=users.device) - self.indptr[users]
        return self.items - place + users * self.n_items

    @torch.no_grad()
    def scores(self, vectors: Tables, *, cosine: bool) -> torch.Tensor:
        """Score every interaction, `[nnz]`."""
        pairs = zip(torch.split(self.users, _CHUNK), torch.split(self.items, _CHUNK), strict=True)
        scores = [
            sampled_scores(*vectors, users, items[:, None], cosine=cosine) for users, items in pairs
        ]
        return torch.cat(scores).squeeze(1)

    def _below(
        self, bound: torch.Tensor, rows: torch.Tensor, n: int, stream: torch.Tensor | int
    ) -> torch.Tensor:
        # integers in [0, bound[b]) for each row b, [B, n]
        row = mix(mix(self.key ^ (stream & MASK)) ^ (rows & MASK))
        bits = mix(row[:, None] ^ mix(torch.arange(n, device=rows.device)))
        return (bits * bound[:, None]) >> 32
