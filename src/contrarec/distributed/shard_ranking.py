"""Ranking of items that are in shards: every worker's shard in turn comes to all of them.

The keys of the best items so far are all that is carried from one shard to the next. So no worker
ever has more than its own shard and one other.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from contrarec.data.dataset import TestSet
from contrarec.distributed.exchange import Exchange
from contrarec.errors import DataError
from contrarec.evaluation.ranking import DotScorer
from contrarec.kernels.topk import csr_tensors, empty_keys, merge_top_k, read_keys

_USERS, _SCORES = 1024, 1 << 21  # scored at a time: 8 MiB


def rank_shards(
    scorer: DotScorer,
    test: TestSet,
    users: NDArray[np.int64],
    k: int,
    *,
    exchange: Exchange,
    lengths: Sequence[int],
) -> NDArray[np.int32]:
    """Rank the k best items of each user; among equal scores the lowest index wins.

    All workers call it together, those that have no users, too.

    Args:
        scorer: of the worker's users, and its shard of the items.
        test: mask and candidates.
        users: `[n]` indices of users, each once.
        k: length of the lists.
        exchange: the workers.
        lengths: of their shards, which follow each other.

    Returns:
        items `[n, k]`, best first; -1 where fewer can be ranked.

    Raises:
        DataError: a score is NaN.
    """
    cpu = torch.device("cpu")
    keys, first = empty_keys(len(users), k, cpu), 0
    mask = allowed = None
    if test.mask is not None:
        mask = csr_tensors((test.mask.indptr, test.mask.indices), cpu)
    if test.candidates is not None:
        allowed = torch.zeros(sum(lengths), dtype=torch.bool)
        allowed[torch.tensor(test.candidates, dtype=torch.int64)] = True
    memory = torch.empty(_SCORES)
    for shard in exchange.in_turn(scorer.item_vectors.contiguous(), lengths):
        within = DotScorer(scorer.user_vectors, shard)
        for start in range(0, len(users), _USERS):
            some = slice(start, start + _USERS)
            rows, at = torch.tensor(users[some]), first
            for scores in within.tiles(users[some], memory):
                keys[some] = merge_top_k(
                    keys[some], scores, first=at, mask=mask, rows=rows, candidates=allowed
                )
                at += scores.shape[1]
        first += len(shard)
    items, best = read_keys(keys)
    if np.isnan(best[:, :1]).any():
        raise DataError(f"test set `{test.name}`: scores must not be NaN: has the model diverged?")
    return items
