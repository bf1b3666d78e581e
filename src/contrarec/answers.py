"""Answers by the user's own ids: recommendations, neighbours, scores, reasons. Needs no torch."""

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import ConfigError, DataError
from contrarec.frames import ids_of, native_frame
from contrarec.rankings import (
    Ranked,
    Ranking,
    Rows,
    VectorRanking,
    best_listed,
    rows_of,
    together,
    without,
)
from contrarec.rules import ItemRules

_ENTRIES = 1 << 20  # of histories that are looked through at a time
_OWN = {"contrarec.answers", "contrarec.recommender"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Recommendations as a table, and whom they were not made for."""

    frame: pl.DataFrame
    """`user_id, item_id, score, rank`"""
    cold: pl.Series
    """Users without training history, who got the most popular items."""
    unlisted: int
    """Users without a row in the lists of what they may get."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What can be asked of a trained model."""

    history: Interactions
    """Training interactions; their vocabularies are the model's."""
    frame: str
    """Kind of frame to answer in: `polars`, `pandas` or `pyarrow`."""
    ranking: Ranking
    """Of the items for a user."""
    neighbours: Callable[[], Ranking]
    """Makes the ranking of the items for an item."""

    @property
    def users(self) -> Vocabulary:
        """Ids of all users."""
        return self.history.users

    @property
    def items(self) -> Vocabulary:
        """Ids of all items."""
        return self.history.items

    def rules(self, exclude: Any, allow: Any) -> ItemRules:
        """Read what may be recommended; see `ItemRules`."""
        rules = ItemRules(exclude, allow, self.users, self.items)
        if rules.n_unknown:
            warn(f"{rules.n_unknown} of the allowed items are not known to the model.")
        return rules

    def recommend(
        self,
        users: Any,
        k: int = 20,
        *,
        filter_viewed: bool = True,
        exclude: Any = None,
        allow: Any = None,
    ) -> Any:
        """Recommend items to users; see `Recommender.recommend`."""
        ids, kind = ids_of(users, self.users.ids.dtype)
        rules = self.rules(exclude, allow)
        block = self.block(ids, k, filter_viewed=filter_viewed, rules=rules)
        if len(block.cold):
            more = ", …" if len(block.cold) > 5 else ""
            warn(
                f"{len(block.cold)} of {len(ids)} users have no training history and get the most "
                f"popular items: {', '.join(map(str, block.cold.head(5)))}{more}"
            )
        if block.unlisted:
            warn(
                f"{block.unlisted} of {len(ids)} users have no row in the allowed items and get "
                "nothing."
            )
        return native_frame(kind or self.frame, block.frame.to_dict())

    def block(self, ids: pl.Series, k: int, *, filter_viewed: bool, rules: ItemRules) -> Block:
        """Recommend to users whose ids have the vocabulary's type."""
        if k < 1:
            raise ConfigError(f"`k` must be at least 1, got {k}.")
        index = self.users.index(ids)
        warm = index >= 0
        warm[warm] = self.history.user_counts[index[warm]] > 0
        mask = rows_of(self.history, index) if filter_viewed else None
        excluded, allowed = rules.excluded(ids), rules.allowed(ids)
        if excluded is not None:
            empty = Rows(np.zeros(len(ids) + 1, np.int64), np.empty(0, np.int32))
            mask = together(mask or empty, excluded, len(self.items))
        items = np.full((len(ids), k), -1, np.int32)
        scores = np.full((len(ids), k), -np.inf, np.float32)
        popular = VectorRanking(
            np.ones((1, 1), np.float32), self.history.item_counts[:, None].astype(np.float32)
        )
        nobody = np.zeros_like(index)
        for part, ranking, rows in ((warm, self.ranking, index), (~warm, popular, nobody)):
            if part.any():
                at = np.flatnonzero(part)
                items[at], scores[at] = _rank(
                    ranking,
                    rows[at],
                    k,
                    mask and mask.select(at),
                    allowed and allowed.select(at),
                    rules.candidates,
                )
        return Block(
            frame=self.table("user_id", ids, items, scores),
            cold=ids.filter(pl.Series(~warm)),
            unlisted=0 if allowed is None else int((np.diff(allowed.indptr) == 0).sum()),
        )

    def similar_items(self, items: Any, k: int = 20) -> Any:
        """Find the items nearest to an item; see `Recommender.similar_items`."""
        ids, kind = ids_of(items, self.items.ids.dtype)
        if k < 1:
            raise ConfigError(f"`k` must be at least 1, got {k}.")
        index = _known(self.items, ids)
        itself = Rows(np.arange(len(index) + 1), index.astype(np.int32))
        found, scores = self.neighbours().top(index, k, mask=itself, candidates=None)
        table = self.table("item_id", ids, found, scores, "similar_item_id")
        return native_frame(kind or self.frame, table.to_dict())

    def score(self, users: Any, items: Any) -> Any:
        """Score single pairs; see `Recommender.score`."""
        of, what, kind = self._pairs(users, items)
        rows, columns = self.users.index(of), self.items.index(what)
        known = (rows >= 0) & (columns >= 0)
        known[known] = self.history.user_counts[rows[known]] > 0
        scores = np.full(len(rows), np.nan, np.float32)
        scores[known] = self.ranking.pairs(rows[known], columns[known])
        if not known.all():
            warn(
                f"{int((~known).sum())} of {len(known)} pairs have no score: the user has no "
                "training history, or the item is unknown."
            )
        column = pl.Series("score", scores, nan_to_null=True)
        frame = {"user_id": of.alias("user_id"), "item_id": what.alias("item_id")}
        return native_frame(kind or self.frame, frame | {"score": column})

    def explain(self, users: Any, items: Any, n: int = 3) -> Any:
        """Name the items of a user's history that are nearest; see `Recommender.explain`."""
        of, what, kind = self._pairs(users, items)
        if n < 1:
            raise ConfigError(f"`n` must be at least 1, got {n}.")
        rows, columns = self.users.index(of), _known(self.items, what)
        neighbours = self.neighbours()
        found = np.full((len(rows), n), -1, np.int32)
        scores = np.full((len(rows), n), -np.inf, np.float32)
        lengths = np.where(rows >= 0, self.history.user_counts[rows], 0)
        for part in _parts(lengths):
            itself = Rows(np.arange(len(columns[part]) + 1), columns[part].astype(np.int32))
            listed = without(rows_of(self.history, rows[part]), itself, None)
            found[part], scores[part] = best_listed(neighbours, columns[part], n, listed)
        filled = found >= 0
        at, ranks = filled.nonzero()
        table = {
            "user_id": of.gather(at).alias("user_id"),
            "item_id": what.gather(at).alias("item_id"),
            "because_item_id": self.items.take(found[filled]).alias("because_item_id"),
            "similarity": pl.Series("similarity", scores[filled]),
            "rank": pl.Series("rank", (ranks + 1).astype(np.int32)),
        }
        return native_frame(kind or self.frame, table)

    def with_reasons(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Add the nearest item of the user's history, null where there is none, to a table."""
        reasons = self.explain(frame["user_id"], frame["item_id"], n=1).drop("rank")
        # the same pair has the same reason, however often it was asked for
        reasons = reasons.unique(["user_id", "item_id"])
        return frame.join(reasons, on=["user_id", "item_id"], how="left", maintain_order="left")

    def _pairs(self, users: Any, items: Any) -> tuple[pl.Series, pl.Series, str | None]:
        """Return the ids of both sides, one of them repeated if it is a single one."""
        of, kind = ids_of(users, self.users.ids.dtype)
        what, other = ids_of(items, self.items.ids.dtype)
        size = max(len(of), len(what)) if len(of) and len(what) else 0
        if {len(of), len(what)} - {1, size}:
            raise DataError(
                f"`users` and `items` must be equally many, or one of them a single id, got "
                f"{len(of)} and {len(what)}."
            )
        of, what = (
            side.new_from_index(0, size) if len(side) == 1 and size > 1 else side
            for side in (of, what)
        )
        return of, what, kind or other

    def table(
        self,
        key: str,
        ids: pl.Series,
        items: NDArray[np.int32],
        scores: NDArray[np.float32],
        value: str = "item_id",
    ) -> pl.DataFrame:
        """Make a long table of `[n, k]` item indices and scores; -1 marks an empty place."""
        filled = items >= 0
        rows, ranks = filled.nonzero()
        return pl.DataFrame(
            {
                key: ids.gather(rows).alias(key),
                value: self.items.take(items[filled]).alias(value),
                "score": pl.Series("score", scores[filled]),
                "rank": pl.Series("rank", (ranks + 1).astype(np.int32)),
            }
        )


def _rank(
    ranking: Ranking,
    rows: NDArray[np.int64],
    k: int,
    mask: Rows | None,
    allowed: Rows | None,
    candidates: NDArray[np.bool_] | None,
) -> Ranked:
    if allowed is not None:
        return best_listed(ranking, rows, k, without(allowed, mask, candidates))
    same = len(rows) > 1 and (rows == rows[0]).all() and (mask is None or not len(mask.indices))
    if same:  # such as users without a history
        items, scores = ranking.top(rows[:1], k, mask=None, candidates=candidates)
        return np.repeat(items, len(rows), 0), np.repeat(scores, len(rows), 0)
    return ranking.top(rows, k, mask=mask, candidates=candidates)


def _parts(lengths: NDArray[np.int64]) -> list[slice]:
    """Divide rows into runs of about `_ENTRIES` entries, or of one row."""
    group = np.cumsum(lengths) // _ENTRIES
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    return [slice(a, b) for a, b in pairwise([*starts, len(lengths)])]


def _known(vocabulary: Vocabulary, ids: pl.Series) -> NDArray[np.int64]:
    index: NDArray[np.int64] = vocabulary.index(ids)
    if (index < 0).any():
        first = ids.filter(pl.Series(index < 0))[0]
        raise DataError(f"unknown item id {first!r} ({int((index < 0).sum())} of {len(ids)}).")
    return index


def warn(message: str) -> None:
    """Warn whoever called the package's front."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"] in _OWN:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
