"""Vectors for users that training never saw, from their histories."""

import torch
import torch.nn.functional as F

STEPS = 8
"""Of the way from the first step to the fixed point."""
_BLOCK_BYTES = 16 << 20  # of scores in memory at a time


def fold_in_vectors(
    item_vectors: torch.Tensor,
    indptr: torch.Tensor,
    items: torch.Tensor,
    *,
    cosine: bool,
    tau: float | None = None,
) -> torch.Tensor:
    """Find the vector that InfoNCE would give a user with this history, items held fixed.

    With all items as negatives, the gradient of a user's loss is the mean of the history's item
    vectors minus the mean of all items', weighted by the softmax of their scores. At a vector of
    zero that softmax is uniform: the first step is what the history prefers over what everyone is
    offered. For cosines at a temperature, the best vector points along its own gradient, and a few
    damped steps towards that fixed point follow. Two users with one history get one vector.

    Args:
        item_vectors: `[n_items, dim]`, the vectors that scores are computed from.
        indptr: `[H + 1]`, where each history starts in `items`.
        items: `[P]`, item indices; a history may be empty and then gets a vector of zeros.
        cosine: whether scores are cosines; the vectors returned then have length 1.
        tau: temperature of the softmax; None makes the first step only.

    Returns:
        `[H, dim]` user vectors.
    """
    vectors = F.normalize(item_vectors) if cosine else item_vectors
    lengths = indptr.diff()
    rows = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    liked = torch.zeros(len(lengths), vectors.shape[1], dtype=vectors.dtype)
    liked = liked.index_add_(0, rows, vectors[items]) / lengths.clamp(min=1)[:, None]
    users = liked - vectors.mean(0)
    if cosine:
        users = F.normalize(users)
    if cosine and tau is not None:
        block = max(1, _BLOCK_BYTES // (4 * len(vectors)))
        parts = zip(torch.split(users, block), torch.split(liked, block), strict=True)
        users = torch.cat([_settle(part, goal, vectors, tau) for part, goal in parts])
    return torch.where(lengths[:, None] > 0, users, torch.zeros(()))


def _settle(
    users: torch.Tensor, liked: torch.Tensor, vectors: torch.Tensor, tau: float
) -> torch.Tensor:
    """Move unit vectors `[b, dim]` towards the fixed point of their own gradient."""
    for _ in range(STEPS):
        offered = torch.softmax(users @ vectors.T / tau, dim=1) @ vectors  # [b, dim]
        users = F.normalize(2 * users + F.normalize(liked - offered))
    return users
