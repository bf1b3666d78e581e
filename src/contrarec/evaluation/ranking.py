"""Full ranking, streamed: score a block of users, keep the k best items of each, go on.

Dot products are scored in tiles, some users by some items, that are ranked while they are still in
the processor's cache and then overwritten by the next; a card gets larger tiles. Any other scorer
scores all items at once: blocks of users of 16 MiB, since the allocator returns larger ones to the
system every time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from contrarec.errors import ConfigError, DataError
from contrarec.kernels.dispatch import Backend
from contrarec.kernels.topk import check_rows, csr_tensors, empty_keys, merge_top_k, read_keys

_BLOCK_BYTES = 16 << 20
_WIDE_BLOCK_BYTES = 64 << 20
_WIDE_BLOCK_ROWS = 16  # fewer rows than this read the item table too often
# Items by which a tile is scored, and its scores: 8 and 128 MiB. Smaller tiles are faster by a
# fifth on idle cores, but wait for other threads more often, which costs most on busy ones.
_TILE = {"cpu": (2048, 1 << 21), "cuda": (8192, 1 << 25)}


class Scorer(Protocol):
    """Whatever scores all items for some users."""

    def __call__(self, users: NDArray[np.int64], /) -> torch.Tensor:
        """Score user indices `[b]`; returns `[b, n_items]`, float32, on any device."""
        ...


class CsrRows(Protocol):
    """Rows of ascending item indices: `Interactions`, a scipy CSR matrix, or the like."""

    @property
    def indptr(self) -> NDArray[np.integer]:
        """`[n_users + 1]`, where each row starts."""

    @property
    def indices(self) -> NDArray[np.integer]:
        """`[nnz]`, ascending in each row."""


@dataclass(frozen=True, eq=False)
class DotScorer:
    """Scores by dot products of two float32 tables on one device; made by `dot_scorer`."""

    user_vectors: torch.Tensor
    """`[n_users, dim]`"""
    item_vectors: torch.Tensor
    """`[n_items, dim]`"""

    def __call__(self, users: NDArray[np.int64], /) -> torch.Tensor:
        """Score all items at once."""
        return self._vectors(users) @ self.item_vectors.T

    def tiles(self, users: NDArray[np.int64], memory: torch.Tensor) -> Iterator[torch.Tensor]:
        """Score the items in turn, as many at once as fit `memory`; each tile overwrites the last.

        Args:
            users: `[b]` indices.
            memory: `[m]` float32 on the tables' device, at least one score per user.

        Yields:
            `[b, w]` scores of consecutive items.
        """
        vectors = self._vectors(users)
        for items in torch.split(self.item_vectors, len(memory) // len(users)):
            tile = memory[: len(users) * len(items)].view(len(users), len(items))
            yield torch.mm(vectors, items.T, out=tile)

    def _vectors(self, users: NDArray[np.int64]) -> torch.Tensor:
        return self.user_vectors[torch.tensor(users, device=self.user_vectors.device)]


def dot_scorer(user_vectors: torch.Tensor, item_vectors: torch.Tensor) -> DotScorer:
    """Score by dot products of two tables; normalise them beforehand for cosine scores.

    Args:
        user_vectors: `[n_users, dim]`.
        item_vectors: `[n_items, dim]`, same device.

    Raises:
        ConfigError: the tables do not fit together.
    """
    if (
        user_vectors.ndim != 2
        or item_vectors.ndim != 2
        or (user_vectors.shape[1] != item_vectors.shape[1])
    ):
        raise ConfigError(
            "`user_vectors` and `item_vectors` must be [rows, dim] with the same dim, got "
            f"{tuple(user_vectors.shape)} and {tuple(item_vectors.shape)}."
        )
    return DotScorer(user_vectors.detach().float(), item_vectors.detach().float())


def default_block_size(n_items: int) -> int:
    """Users scored at once over all items: what fits 16 MiB; 16 if they fit 64 MiB; at least 1.

    >>> default_block_size(1_000), default_block_size(1_000_000), default_block_size(100_000_000)
    (4194, 16, 1)
    """
    row_bytes = 4 * max(n_items, 1)
    wide = min(_WIDE_BLOCK_ROWS, _WIDE_BLOCK_BYTES // row_bytes)
    return max(1, wide, _BLOCK_BYTES // row_bytes)


def top_k(
    scorer: Scorer,
    users: NDArray[np.integer],
    k: int,
    *,
    n_items: int,
    mask: CsrRows | None = None,
    candidates: NDArray[np.integer] | None = None,
    block_size: int | None = None,
    backend: Backend = "auto",
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Rank the k best items of each user over all items; among equal scores the lowest index wins.

    Memory beside the result is bounded by one block of scores, `block_size × n_items × 4` bytes:
    by default 16 MiB, 64 MiB where fewer than 16 users would fit, or one row where that is larger.
    A `dot_scorer` takes less, 8 MiB by default on the CPU and 128 MiB on a card. The reference
    twin, which a card uses, takes several times as much. The result depends on the block only
    through rounding in the scorer.

    Args:
        scorer: called with blocks of `users`; must return `[b, n_items]`.
        users: `[n]` user indices, in any order.
        k: length of the lists.
        n_items: items that the scorer scores.
        mask: CSR of items not to be ranked, one row per user index; those from `n_items` on are
            unknown to the scorer and ignored.
        candidates: indices of the only items that may be ranked; all if None.
        block_size: users per block.
        backend: of the top-k kernel.

    Returns:
        items `[n, k]` int32, best first, and their scores `[n, k]` float32; -1 and -inf where
        fewer than k items can be ranked.

    Raises:
        ConfigError: `k` or `block_size` is below 1, or the scorer returns another shape.
        DataError: a user is negative or has no row in `mask`, or a score is NaN.
    """
    if k < 1:
        raise ConfigError(f"`k` must be at least 1, got {k}.")
    if block_size is not None and block_size < 1:
        raise ConfigError(f"`block_size` must be at least 1, got {block_size}.")
    index = np.ascontiguousarray(users, np.int64)
    if index.min(initial=0) < 0:  # would silently be a user counted from the end
        raise DataError(f"`users` must be indices from 0 on, got {index.min()}.")
    seen = None
    if mask is not None:
        check_rows(index, len(mask.indptr) - 1)
        seen = csr_tensors((mask.indptr, mask.indices), torch.device("cpu"))
    allowed = None
    if candidates is not None:
        allowed = torch.zeros(n_items, dtype=torch.bool)
        allowed[torch.tensor(candidates[candidates < n_items], dtype=torch.int64)] = True

    items = np.empty((len(index), k), np.int32)
    best = np.empty((len(index), k), np.float32)
    size, memory = _block(scorer, len(index), n_items, block_size)
    for start in range(0, len(index), size):
        block = index[start : start + size]
        part = slice(start, start + len(block))
        rows = torch.tensor(block)
        keys, first = empty_keys(len(block), k, rows.device), 0
        for scores in _tiles(scorer, block, n_items, memory):
            if keys.device != scores.device:  # in the first block the mask moves, too, and stays
                keys, rows = keys.to(scores.device), rows.to(scores.device)
                seen = seen and (seen[0].to(scores.device), seen[1].to(scores.device))
                allowed = None if allowed is None else allowed.to(scores.device)
            keys = merge_top_k(
                keys, scores, first=first, mask=seen, rows=rows, candidates=allowed, backend=backend
            )
            first += scores.shape[1]
            del scores  # gone before the next block
        items[part], best[part] = read_keys(keys)
        failed = np.isnan(best[part, 0])
        if failed.any():
            raise DataError(
                f"scores must not be NaN, got NaN for {failed.sum()} of {len(block)} users, the "
                f"first with index {block[failed.argmax()]}: has the model diverged?"
            )
    return items, best


def rows_at_once(scorer: Scorer, n_users: int, n_items: int, block_size: int | None = None) -> int:
    """Return how many of the users `top_k` scores at once."""
    if not isinstance(scorer, DotScorer):
        return block_size or default_block_size(n_items)
    width, n_scores = _tile(scorer)
    return max(1, min(block_size or n_scores // min(width, n_items), n_users))


def _block(
    scorer: Scorer, n_users: int, n_items: int, block_size: int | None
) -> tuple[int, torch.Tensor]:
    """Return how many users are scored at once, and the memory for tiles of their scores."""
    if not isinstance(scorer, DotScorer):
        return rows_at_once(scorer, n_users, n_items, block_size), torch.empty(0)
    _check_shape((n_users, len(scorer.item_vectors)), n_users, n_items)
    size = rows_at_once(scorer, n_users, n_items, block_size)
    width, n_scores = _tile(scorer)
    width = min(max(n_scores // size, width), n_items)
    return size, torch.empty(size * width, device=scorer.item_vectors.device)


def _tile(scorer: DotScorer) -> tuple[int, int]:
    return _TILE.get(scorer.item_vectors.device.type, _TILE["cuda"])


def _tiles(
    scorer: Scorer, users: NDArray[np.int64], n_items: int, memory: torch.Tensor
) -> Iterator[torch.Tensor]:
    if isinstance(scorer, DotScorer):
        yield from scorer.tiles(users, memory)
    else:
        yield _scores(scorer, users, n_items)


def _scores(scorer: Scorer, users: NDArray[np.int64], n_items: int) -> torch.Tensor:
    with torch.no_grad():
        scores = scorer(users)
    _check_shape(tuple(scores.shape), len(users), n_items)
    return scores


def _check_shape(shape: tuple[int, ...], n_users: int, n_items: int) -> None:
    if shape != (n_users, n_items):
        raise ConfigError(
            f"the scorer must return [{n_users}, {n_items}] scores for {n_users} users "
            f"and {n_items} items, got {shape}."
        )
