"""From scores to the lists of a batch: the best items of each row, or the popular ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contrarec.evaluation.ranking import DotScorer, Scorer, top_k
from contrarec.serving.ids import Id, IdIndex
from contrarec.serving.masks import RowsMask, add_pairs
from contrarec.serving.schemas import FoldInRequest, RecommendRequest, SimilarRequest

Json = dict[str, Any]
Indices = NDArray[np.int64]
Question = RecommendRequest | FoldInRequest | SimilarRequest


class Lists:
    """Makes the lists of a batch of questions, with one product for all of their rows.

    Args:
        items: ids of the items.
        counts: `[n_items]`, training interactions of each.
    """

    def __init__(self, items: IdIndex, counts: Indices) -> None:
        self._items, self._counts = items, counts
        self._popular = np.argsort(-counts, kind="stable")

    def rank(
        self,
        scorer: Scorer,
        index: Indices,
        mask: RowsMask,
        queries: Sequence[Question],
        owner: Indices,
        warm: NDArray[np.bool_],
    ) -> list[list[Json]]:
        """Return the list of every row `[n]`: the scorer's where it is warm, else the popular.

        Args:
            scorer: of all items.
            index: `[w]`, what it is called with for the warm rows.
            mask: `[w]` rows of items that are left out.
            queries: what was asked.
            owner: `[n]`, the query of each row.
            warm: `[n]`.
        """
        excluded = [self._known_items(getattr(query, "exclude", ())) for query in queries]
        ks = [min(query.k, len(self._items)) for query in queries]
        lists: list[list[Json]] = [[]] * len(owner)
        if len(index):
            rows, items = _pairs(excluded, owner[warm])
            mask = add_pairs(mask, rows, items, len(self._items))
            n_best = max(ks[query] for query in owner[warm])
            best, scores = top_k(
                _batch_scorer(scorer, index),
                np.arange(len(index)),
                n_best,
                n_items=len(self._items),
                mask=mask,
            )
            listed = zip(np.flatnonzero(warm), best.tolist(), scores.tolist(), strict=True)
            for place, row_items, row_scores in listed:
                k = ks[owner[place]]
                lists[place] = self._listed(row_items[:k], row_scores[:k])
        for place in np.flatnonzero(~warm):
            query = owner[place]
            first = self._popular[: ks[query] + len(excluded[query])]
            items = first[~np.isin(first, excluded[query])][: ks[query]]
            counts = self._counts[items].astype(np.float64)
            lists[place] = self._listed(items.tolist(), counts.tolist())
        return lists

    def _listed(self, items: list[int], scores: list[float]) -> list[Json]:
        ids, counts = self._items.ids, self._counts
        ranked = enumerate(zip(items, scores, strict=True), start=1)
        return [
            {"item_id": ids[item], "score": score, "rank": rank, "popularity": int(counts[item])}
            for rank, (item, score) in ranked
            if item >= 0  # empty places are the last ones
        ]

    def _known_items(self, ids: Sequence[Id]) -> Indices:
        places = self._items.index(ids)
        return places[places >= 0]


def owners(lengths: list[int]) -> Indices:
    """Return the query of each row."""
    return np.repeat(np.arange(len(lengths)), lengths)


def _pairs(excluded: list[Indices], owner: Indices) -> tuple[Indices, Indices]:
    """Return row and item of everything that the queries exclude from their rows `[w]`."""
    lengths = np.array([len(items) for items in excluded])[owner]
    items = [excluded[query] for query in owner if len(excluded[query])]
    return np.repeat(np.arange(len(owner)), lengths), np.concatenate([np.empty(0, int), *items])


def _batch_scorer(scorer: Scorer, index: Indices) -> Scorer:
    """Return a scorer whose users are the rows of a batch, so that one may come twice."""
    if isinstance(scorer, DotScorer):
        vectors = scorer.user_vectors[torch.from_numpy(index).to(scorer.user_vectors.device)]
        return DotScorer(vectors, scorer.item_vectors)
    return lambda rows: scorer(index[rows])
