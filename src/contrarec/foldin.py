"""Vectors for users that training never saw, from their histories."""

import torch
import torch.nn.functional as F


def fold_in_vectors(
    item_vectors: torch.Tensor, indptr: torch.Tensor, items: torch.Tensor, *, cosine: bool
) -> torch.Tensor:
    """Return the direction in which a softmax loss first moves a user with this history.

    For uniform negatives the gradient of InfoNCE at a user vector of zero is the mean of the
    history's item vectors minus the mean of all items': what the history prefers, compared with
    what everyone is offered. It needs no training, and two users with one history get one vector.

    Args:
        item_vectors: `[n_items, dim]`, the vectors that scores are computed from.
        indptr: `[H + 1]`, where each history starts in `items`.
        items: `[P]`, item indices; a history may be empty and then gets a vector of zeros.
        cosine: whether scores are cosines.

    Returns:
        `[H, dim]` user vectors.
    """
    vectors = F.normalize(item_vectors) if cosine else item_vectors
    lengths = indptr.diff()
    rows = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    sums = torch.zeros(len(lengths), vectors.shape[1], dtype=vectors.dtype)
    sums.index_add_(0, rows, vectors[items])
    users = sums / lengths.clamp(min=1)[:, None] - vectors.mean(0)
    return torch.where(lengths[:, None] > 0, users, torch.zeros(()))
