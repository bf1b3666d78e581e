"""A run in memory that answers batches of queries; never changed once it is made."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import ConfigError, DataError
from contrarec.evaluation.ranking import DotScorer, Scorer
from contrarec.recommender import Recommender
from contrarec.serving.ids import Id, IdIndex
from contrarec.serving.lists import Indices, Json, Lists, owners
from contrarec.serving.masks import RowsMask, take_rows
from contrarec.serving.schemas import FoldInRequest, RecommendRequest, SimilarRequest


class UnknownIdError(LookupError):
    """An id that the model does not know, where nothing can be said without it."""


class ServedModel:
    """The vectors of a trained run, its history and its ids.

    Every method takes a batch of queries, and computes one product for all of them.

    Args:
        recommender: trained.
        run: what the run is called in the answers.

    Raises:
        DataError: a vector is not finite.
    """

    def __init__(self, recommender: Recommender, run: str) -> None:
        model = recommender.model
        self.run = run
        self.history: Interactions = model.history
        self.users, self.items = IdIndex(recommender.users), IdIndex(recommender.items)
        self._scorer, self._fold_in = model.scorer(), model.folding()
        self._similar: Scorer | None = None
        self.about = {
            "run": run,
            "backbone": recommender.settings.backbone.name,
            "method": recommender.settings.loss_name,
            "users": len(self.users),
            "items": len(self.items),
            "interactions": self.history.nnz,
            "max_popularity": int(self._counts.max(initial=0)),
        }
        try:
            self._similar = model.similar()
            self.no_similar = ""
        except ConfigError as error:  # a model of popularity
            self.no_similar = str(error)
        self._lists = Lists(self.items, self._counts)
        _check_finite(self._scorer, run)

    @classmethod
    def load(cls, folder: Path, *, device: str = "auto") -> "ServedModel":
        """Read a run. A link is followed once, so that every file is of the same run.

        Raises:
            DataError: the folder holds no finished run, or a file is damaged.
            ConfigError: its settings are not understood.
        """
        path = folder.resolve()
        if not path.exists():
            raise DataError(f"{folder}: not a run (no such folder).")
        return cls(Recommender.load(path, device=device), path.name)

    @property
    def _counts(self) -> Indices:
        return self.history.item_counts

    def recommend(self, queries: Sequence[RecommendRequest]) -> list[Json]:
        """Rank items for the users of every query."""
        ids = [id_ for query in queries for id_ in query.users]
        index = self.users.index(ids)
        warm = index >= 0
        warm[warm] = self.history.user_counts[index[warm]] > 0
        owner = owners([len(query.users) for query in queries])
        known, owner_of = index[warm], owner[warm]
        seen = np.array([query.include_seen for query in queries])[owner_of]
        mask = take_rows(self.history, known, ~seen)
        lists = self._lists.rank(self._scorer, known, mask, queries, owner, warm)
        rows: list[Json] = [
            {
                "user_id": id_ if place < 0 else self.users.ids[place],
                "source": "model" if is_warm else "popularity",
                "items": items,
            }
            for id_, place, is_warm, items in zip(ids, index, warm, lists, strict=True)
        ]
        return self._grouped(rows, [len(query.users) for query in queries])

    def fold_in(self, queries: Sequence[FoldInRequest]) -> list[Json]:
        """Rank items for the histories of every query."""
        histories = [history for query in queries for history in query.histories]
        places = [self.items.index(history) for history in histories]
        unknown = [int((place < 0).sum()) for place in places]
        places = [place[place >= 0] for place in places]
        lengths = np.array([len(place) for place in places])
        warm = lengths > 0
        owner = owners([len(query.histories) for query in queries])
        n_warm = int(warm.sum())
        history = Interactions.from_pairs(
            np.repeat(np.arange(n_warm), lengths[warm]),
            np.concatenate(places),
            users=Vocabulary.of(range(n_warm)),
            items=self.history.items,
        )
        seen = np.array([query.include_seen for query in queries])[owner[warm]]
        everyone = np.arange(n_warm)
        mask = take_rows(history, everyone, ~seen)
        lists = self._lists.rank(self._fold_in(history), everyone, mask, queries, owner, warm)
        rows: list[Json] = [
            {
                "source": "model" if is_warm else "popularity",
                "unknown_items": missing,
                "items": items,
            }
            for is_warm, missing, items in zip(warm, unknown, lists, strict=True)
        ]
        answers = self._grouped(rows, [len(query.histories) for query in queries])
        for answer in answers:
            numbered = enumerate(answer["results"])
            answer["results"] = [{"history": number} | row for number, row in numbered]
        return answers

    def similar(self, queries: Sequence[SimilarRequest]) -> list[Json | Exception]:
        """Rank the neighbours of every query's items; a query with an unknown one fails alone."""
        if self._similar is None:
            return [ConfigError(self.no_similar) for _ in queries]
        places = [self.items.index(query.items) for query in queries]
        answers: list[Json | Exception] = [
            UnknownIdError(f"unknown item id {query.items[int(place.argmin())]!r}.")
            for query, place in zip(queries, places, strict=True)
        ]
        sound = [number for number, place in enumerate(places) if place.min() >= 0]
        if not sound:
            return answers
        index = np.concatenate([places[number] for number in sound])
        asked = [queries[number] for number in sound]
        owner = owners([len(query.items) for query in asked])
        itself = RowsMask(np.arange(len(index) + 1), index.astype(np.int32))
        everything = np.ones(len(index), bool)
        lists = self._lists.rank(self._similar, index, itself, asked, owner, everything)
        rows: list[Json] = [
            {"item_id": self.items.ids[place], "items": items}
            for place, items in zip(index, lists, strict=True)
        ]
        grouped = self._grouped(rows, [len(query.items) for query in asked])
        for number, answer in zip(sound, grouped, strict=True):
            answers[number] = answer
        return answers

    def history_of(self, user: Id, n: int) -> Json:
        """Return the `n` most popular items of a user's history.

        Raises:
            UnknownIdError: the user is unknown.
        """
        place = int(self.users.index([user])[0])
        if place < 0:
            raise UnknownIdError(f"unknown user id {user!r}.")
        items = self.history.indices[self.history.indptr[place] : self.history.indptr[place + 1]]
        first = items[np.argsort(-self._counts[items], kind="stable")[:n]]
        rows = [
            {"item_id": self.items.ids[item], "popularity": int(self._counts[item])}
            for item in first
        ]
        return {
            "run": self.run,
            "user_id": self.users.ids[place],
            "total": len(items),
            "items": rows,
        }

    def _grouped(self, rows: list[Json], lengths: list[int]) -> list[Json]:
        ends = np.cumsum(lengths).tolist()
        return [
            {"run": self.run, "results": rows[end - length : end]}
            for end, length in zip(ends, lengths, strict=True)
        ]


def _check_finite(scorer: Scorer, run: str) -> None:
    """Refuse vectors that would spoil every answer that they have a part in."""
    if isinstance(scorer, DotScorer):
        for kind, vectors in (("user", scorer.user_vectors), ("item", scorer.item_vectors)):
            if not vectors.isfinite().all():
                raise DataError(f"{run}: a {kind} vector is not finite: has the model diverged?")
