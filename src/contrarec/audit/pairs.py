"""The pairs that an analysis of the adversary looks at, and what a model weighs them with.

Training weighs N sampled negatives against each other. An analysis weighs all of a user's
candidates at once, every item that a sampler could draw for the user: that is the limit of large
N, depends on no draw, and orders the items as every sample does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from contrarec.backbones import Backbone
from contrarec.data.interactions import Interactions
from contrarec.errors import ConfigError, DataError
from contrarec.losses import Loss
from contrarec.losses.base import Tables

MAX_PAIRS = 1 << 24
"""Pairs that are looked at in all; beyond that, users are sampled."""
_BLOCK = 1 << 21  # pairs in memory at a time


class Block(NamedTuple):
    """Some users, and which items are no candidates of theirs."""

    users: NDArray[np.int64]
    """`[b]`"""
    out: NDArray[np.bool_]
    """`[b, n_items]`"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Every item outside what is left out, for some users."""

    users: NDArray[np.int64]
    """`[n]` indices, ascending."""
    n_eligible: int
    """Users that `users` were drawn from."""
    left_out: Interactions
    """What is no candidate: the training history, at least."""

    @classmethod
    def draw(
        cls, eligible: NDArray[np.int64], left_out: Interactions, *, limit: int, seed: int
    ) -> Self:
        """Take users at random without replacement, or all where they are few enough.

        Args:
            eligible: indices of the users to draw from.
            left_out: what is no candidate.
            limit: users to draw at most; fewer where they would have more than `MAX_PAIRS` pairs.
            seed: decides which.

        Raises:
            ConfigError: `limit` is below 1.
            DataError: no user is eligible.
        """
        if limit < 1:
            raise ConfigError(f"`users` must be at least 1, got {limit}.")
        if not len(eligible):
            raise DataError("there must be a user to look at, got none.")
        limit = max(1, min(limit, MAX_PAIRS // left_out.n_items))
        users = np.sort(eligible)
        if len(users) > limit:
            users = np.sort(np.random.default_rng(seed).choice(users, limit, replace=False))
        return cls(users=users.astype(np.int64), n_eligible=len(eligible), left_out=left_out)

    def blocks(self) -> Iterator[Block]:
        """Yield the users in blocks of about two million pairs."""
        size = max(1, _BLOCK // self.left_out.n_items)
        for first in range(0, len(self.users), size):
            users = self.users[first : first + size]
            yield Block(users, dense(self.left_out, users))


def dense(log: Interactions, users: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether each of some users has each item, `[len(users), n_items]`."""
    counts = log.user_counts[users]
    rows = np.repeat(np.arange(len(users)), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.zeros((len(users), log.n_items), np.bool_)
    table[rows, log.indices[np.repeat(log.indptr[users], counts) + within]] = True
    return table


class View:
    """A model as an analysis sees it at one moment: scores and weights, for all items of a user.

    Args:
        backbone: what was trained.
        loss: its loss; on the same device.
    """

    @torch.no_grad()
    def __init__(self, backbone: Backbone, loss: Loss) -> None:
        self.loss = loss
        self.vectors: Tables = backbone.user_table.detach(), backbone.item_table.detach()
        """Layer-0 tables, users and items."""
        self.outputs: Tables = backbone()
        """What scores are computed from."""

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.outputs[0].device

    @torch.no_grad()
    def scores(self, users: NDArray[np.int64]) -> torch.Tensor:
        """Score all items as training does, `[len(users), n_items]`."""
        rows, items = self.outputs[0][torch.from_numpy(users).to(self.device)], self.outputs[1]
        if self.loss.similarity == "cosine":
            rows, items = F.normalize(rows), F.normalize(items)
        return rows @ items.T

    @property
    def weighs(self) -> bool:
        """Whether the loss weighs its negatives by a hardness, learned, fixed or in closed form."""
        first = np.zeros(1, np.int64)
        scores = self.scores(first)
        return self._log_p(Block(first, np.zeros(scores.shape, np.bool_)), scores) is not None

    def log_p(self, block: Block, scores: torch.Tensor) -> torch.Tensor:
        """Return the loss's `log p [b, n_items]` over the candidates; `-inf` for the others.

        Args:
            block: users and what is left out.
            scores: `[b, n_items]`, from `scores`.

        Raises:
            ConfigError: the loss weighs all negatives alike.
        """
        log_p = self._log_p(block, scores)
        if log_p is None:
            raise ConfigError(
                f"the loss {type(self.loss).__name__} has no adversary: it weighs all negatives "
                "alike, so that there is no hardness to look at."
            )
        return log_p.masked_fill(torch.from_numpy(block.out).to(self.device), -torch.inf)

    @torch.no_grad()
    def _log_p(self, block: Block, scores: torch.Tensor) -> torch.Tensor | None:
        out = torch.from_numpy(block.out).to(self.device)
        context: dict[str, Any] = {
            "users": torch.from_numpy(block.users).to(self.device),
            "neg_items": torch.arange(scores.shape[1], device=self.device).expand_as(scores),
            "vectors": self.vectors,
            "neg_log_weight": torch.zeros_like(scores).masked_fill(out, -torch.inf),
        }
        return self.loss.log_p(scores, **context)


def deltas(log_p: torch.Tensor, out: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the hardness `δ = log(n·p)` of each pair, n being the row's candidates.

    Below 0 a negative is pushed away less than it would be without an adversary, as a probable
    false negative; above 0 more.

    Args:
        log_p: `[b, n_items]`.
        out: `[b, n_items]`, what is no candidate.

    Returns:
        `[b, n_items]`, `-inf` where `out`.

    >>> log_p = torch.tensor([[0.5, 0.25, 0.25, 0.0]]).log()
    >>> deltas(log_p, np.array([[False] * 3 + [True]])).round(3)
    array([[ 0.405, -0.288, -0.288,   -inf]], dtype=float32)
    """
    n = torch.from_numpy((~out).sum(1, keepdims=True)).to(log_p.device)
    found: NDArray[np.float32] = (log_p + n.log()).float().cpu().numpy()
    return found
