"""How a question becomes part of a batch, and its answer JSON."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from contrarec.serving.batching import Batcher
from contrarec.serving.lists import Json
from contrarec.serving.live import Live
from contrarec.serving.metrics import Metrics
from contrarec.serving.model import ServedModel
from contrarec.serving.schemas import MAX_HISTORIES, Limits, Problem

Q = TypeVar("Q")

JSON = "application/json"
MAX_ROWS = {"recommend": 256, "similar": 256, "fold-in": MAX_HISTORIES}
"""Rows of a batch: larger ones gain nothing, and keep others waiting."""

Responses = dict[int | str, dict[str, Any]]

PROBLEMS: Responses = {
    401: {"model": Problem, "description": "The API key is missing or wrong."},
    413: {"model": Problem, "description": "The body is too large."},
    422: {"model": Problem, "description": "The question is not well-formed, or asks too much."},
    503: {"model": Problem, "description": "Too many calls are waiting; try again."},
}
"""What every question may be answered with, for the OpenAPI description."""
UNKNOWN: Responses = {404: {"model": Problem, "description": "An id is unknown."}}


def answers(model: type[BaseModel], *problems: Responses) -> Responses:
    """Describe what a path answers with."""
    described: Responses = {200: {"model": model, "description": "The answer."}}
    for more in problems:
        described |= more
    return described


class Service:
    """Answers questions with the present model, concurrent ones together.

    Args:
        live: the model.
        limits: of one call.
        metrics: where batches are counted.
    """

    def __init__(self, live: Live, limits: Limits, metrics: Metrics) -> None:
        self.live, self.limits, self.metrics = live, limits, metrics
        self.stopping = False
        # one thread: every product uses all the cores that it may
        self._executor = ThreadPoolExecutor(1, "contrarec-batch")
        self.recommend = self._batcher("recommend", ServedModel.recommend, lambda q: len(q.users))
        self.similar = self._batcher("similar", ServedModel.similar, lambda q: len(q.items))
        self.fold_in = self._batcher("fold-in", ServedModel.fold_in, lambda q: len(q.histories))

    def _batcher(
        self,
        kind: str,
        method: Callable[[ServedModel, Sequence[Q]], Sequence[Json | Exception]],
        rows: Callable[[Q], int],
    ) -> Batcher[Q, bytes]:
        batch_rows = self.metrics.batch_rows.labels(kind)
        batch_seconds = self.metrics.batch_seconds.labels(kind)

        def work(queries: Sequence[Q]) -> list[bytes | Exception]:
            started = time.perf_counter()
            answers = method(self.live.model, queries)
            batch_rows.observe(sum(map(rows, queries)))
            batch_seconds.observe(time.perf_counter() - started)
            return [self._encoded(answer) for answer in answers]

        return Batcher(
            work,
            rows,
            executor=self._executor,
            max_rows=MAX_ROWS[kind],
            max_waiting=self.limits.max_waiting,
        )

    def _encoded(self, answer: Json | Exception) -> bytes | Exception:
        if isinstance(answer, Exception):
            return answer
        popular = sum(row.get("source") == "popularity" for row in answer["results"])
        if popular:
            self.metrics.popularity_lists.inc(popular)
        return encode(answer)

    def check(self, k: int, n_ids: int) -> None:
        """Refuse what asks for too much, with status 422."""
        for name, value, most in (
            ("list's length `k`", k, self.limits.max_k),
            ("number of ids", n_ids, self.limits.max_ids),
        ):
            if value > most:
                raise HTTPException(422, f"the {name} must be at most {most}, got {value}.")

    async def reload(self) -> None:
        """Swap in what the folder of the run now holds, while the present model answers."""
        self.metrics.swapped(await asyncio.to_thread(self.live.reload))

    def close(self) -> None:
        """Let the thread of the batches end."""
        self._executor.shutdown()


def encode(answer: Json) -> bytes:
    """Return JSON.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")  # a refused text may be no proper one


def json_response(
    answer: Json, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a response with JSON."""
    return Response(encode(answer), status, headers, media_type=JSON)
