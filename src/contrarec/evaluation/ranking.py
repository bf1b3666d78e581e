"""Full ranking, streamed: score a block of users, keep the k best items of each, go on.

At no time are there more scores than one block, `block_size × n_items × 4` bytes. By default that
is 16 MiB: larger blocks are slower, since the allocator returns them to the system every time.
"""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from contrarec.errors import ConfigError, DataError
from contrarec.kernels.dispatch import Backend
from contrarec.kernels.topk import Csr, masked_top_k

_BLOCK_BYTES = 16 << 20
_WIDE_BLOCK_BYTES = 64 << 20
_WIDE_BLOCK_ROWS = 16  # fewer rows than this read the item table too often


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


def dot_scorer(user_vectors: torch.Tensor, item_vectors: torch.Tensor) -> Scorer:
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
    table = user_vectors.detach().float()
    items = item_vectors.detach().float().T  # [dim, n_items]

    def score(users: NDArray[np.int64], /) -> torch.Tensor:
        return table[torch.tensor(users, device=table.device)] @ items

    return score


def default_block_size(n_items: int) -> int:
    """Users per block: as many as fit 16 MiB of scores; if fewer than 16, up to 64 MiB; at least 1.

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
    by default 16 MiB, 64 MiB where fewer than 16 users would fit, or one row where that is larger
    (the reference twin sorts a copy and takes several times as much). The result depends on it
    only through rounding in the scorer.

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
    if block_size is None:
        block_size = default_block_size(n_items)
    if block_size < 1:
        raise ConfigError(f"`block_size` must be at least 1, got {block_size}.")
    index = np.ascontiguousarray(users, np.int64)
    if index.min(initial=0) < 0:  # would silently be a user counted from the end
        raise DataError(f"`users` must be indices from 0 on, got {index.min()}.")
    rows_of_mask: Csr | None = None
    if mask is not None:
        rows_of_mask = np.asarray(mask.indptr, np.int64), np.asarray(mask.indices, np.int32)
    allowed = None
    if candidates is not None:
        allowed = np.zeros(n_items, np.bool_)
        allowed[candidates[candidates < n_items]] = True

    items = np.empty((len(index), k), np.int32)
    best = np.empty((len(index), k), np.float32)
    for start in range(0, len(index), block_size):
        block = index[start : start + block_size]
        part = slice(start, start + len(block))
        # The scores are given away without a name, so that they are gone before the next block.
        items[part], best[part] = masked_top_k(
            _scores(scorer, block, n_items),
            k,
            mask=rows_of_mask,
            rows=None if rows_of_mask is None else block,
            candidates=allowed,
            backend=backend,
        )
        failed = np.isnan(best[part, 0])
        if failed.any():
            raise DataError(
                f"scores must not be NaN, got NaN for {failed.sum()} of {len(block)} users, the "
                f"first with index {block[failed.argmax()]}: has the model diverged?"
            )
    return items, best


def _scores(scorer: Scorer, users: NDArray[np.int64], n_items: int) -> torch.Tensor:
    with torch.no_grad():
        scores = scorer(users)
    if scores.shape != (len(users), n_items):
        raise ConfigError(
            f"the scorer must return [{len(users)}, {n_items}] scores for {len(users)} users "
            f"and {n_items} items, got {tuple(scores.shape)}."
        )
    return scores
