"""Ranking by a model's scorer: torch, compiled code, a GPU."""

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from contrarec.evaluation.ranking import (
    DotScorer,
    Scorer,
    default_block_size,
    dot_scorer,
    top_k,
)
from contrarec.kernels.dispatch import Backend
from contrarec.rankings import Ranked, Rows

_FEW_SCORES = 1 << 20
_GATHERED = 1 << 20  # numbers of gathered vectors in memory at a time


class ScorerRanking:
    """Ranks by whatever scores all items for some rows.

    Args:
        scorer: of users, or of items.
        n_items: items that it scores.
    """

    def __init__(self, scorer: Scorer, n_items: int) -> None:
        self.scorer, self._n_items = scorer, n_items

    def top(
        self,
        rows: NDArray[np.int64],
        k: int,
        *,
        mask: Rows | None,
        candidates: NDArray[np.bool_] | None,
    ) -> Ranked:
        """Rank in blocks, by the kernel that suits the device and the number of scores."""
        return top_k(
            self._local(rows),
            np.arange(len(rows)),
            k,
            n_items=self._n_items,
            mask=mask,
            candidates=None if candidates is None else np.flatnonzero(candidates),
            backend=_twin(len(rows) * self._n_items),
        )

    def pairs(self, rows: NDArray[np.int64], items: NDArray[np.integer]) -> NDArray[np.float32]:
        """Score by gathering vectors where there are any, or else a block of rows at a time."""
        if isinstance(self.scorer, DotScorer):
            return self._dots(self.scorer, rows, items)
        asked, place = np.unique(rows, return_inverse=True)
        order = np.argsort(place, kind="stable")
        scores = np.empty(len(rows), np.float32)
        step = default_block_size(self._n_items)
        bounds = np.searchsorted(place[order], np.arange(0, len(asked) + step, step))
        for number, (start, stop) in enumerate(pairwise(bounds)):
            first, at = number * step, order[start:stop]
            with torch.no_grad():
                block = self.scorer(asked[first : first + step]).cpu().numpy()
            scores[at] = block[place[at] - first, items[at]]
        return scores

    def _dots(
        self, scorer: DotScorer, rows: NDArray[np.int64], items: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        users, vectors = scorer.user_vectors, scorer.item_vectors
        step = max(1, _GATHERED // max(vectors.shape[1], 1))
        pairs = torch.from_numpy(np.stack([rows, items.astype(np.int64)]))
        parts = [
            (users[of] * vectors[what]).sum(1).cpu()
            for of, what in torch.split(pairs.to(users.device), step, dim=1)
        ]
        scores: NDArray[np.float32] = torch.cat(parts).numpy() if parts else np.empty(0, np.float32)
        return scores

    def _local(self, rows: NDArray[np.int64]) -> Scorer:
        """Return the scorer of the rows asked for, numbered from 0."""
        scorer = self.scorer
        if isinstance(scorer, DotScorer):
            at = torch.tensor(rows, device=scorer.user_vectors.device)
            return dot_scorer(scorer.user_vectors[at], scorer.item_vectors)
        return lambda local: scorer(rows[local])


def _twin(n_scores: int) -> Backend:
    """Choose the kernel of a ranking: loading compiled code takes longer than a few users do."""
    return "reference" if n_scores <= _FEW_SCORES else "auto"
