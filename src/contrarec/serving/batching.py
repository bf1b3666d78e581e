"""Concurrent calls answered together: what arrives while a batch is computed is the next batch.

No call waits for others to come: alone it is computed at once, and the busier the server is, the
larger its batches are.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class OverloadedError(RuntimeError):
    """Too many calls are waiting already."""


@dataclass(frozen=True)
class _Call(Generic[Q, A]):
    query: Q
    rows: int
    answer: "asyncio.Future[A]"


class Batcher(Generic[Q, A]):
    """Collects calls of one kind and computes them on another thread, a batch at a time.

    Args:
        work: computes the answers to a batch, in its order; an exception among them is that call's
            alone, one that is raised is everybody's.
        rows: how much of a batch a query takes.
        executor: where `work` runs.
        max_rows: of a batch; a larger query is a batch by itself.
        max_waiting: calls that may wait.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Q]], Sequence[A | Exception]],
        rows: Callable[[Q], int],
        *,
        executor: Executor,
        max_rows: int,
        max_waiting: int,
    ) -> None:
        self._work, self._rows, self._executor = work, rows, executor
        self._max_rows, self._max_waiting = max_rows, max_waiting
        self._waiting: deque[_Call[Q, A]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, query: Q) -> A:
        """Answer a query, together with those that wait beside it.

        Raises:
            OverloadedError: too many are waiting.
        """
        if len(self._waiting) >= self._max_waiting:
            raise OverloadedError
        loop = asyncio.get_running_loop()
        call: _Call[Q, A] = _Call(query, self._rows(query), loop.create_future())
        self._waiting.append(call)
        if self._task is None:
            self._task = loop.create_task(self._answer_all())
        return await call.answer

    async def _answer_all(self) -> None:
        try:
            while batch := self._next():
                await self._answer(batch)
        finally:
            self._task = None

    async def _answer(self, batch: list[_Call[Q, A]]) -> None:
        queries = [call.query for call in batch]
        loop = asyncio.get_running_loop()
        answers: Sequence[A | Exception]
        try:
            answers = await loop.run_in_executor(self._executor, self._work, queries)
        except Exception as error:  # everybody in the batch is told
            answers = [error] * len(batch)
        for call, answer in zip(batch, answers, strict=True):
            if call.answer.done():  # nobody waits for it any more
                continue
            if isinstance(answer, Exception):
                call.answer.set_exception(answer)
            else:
                call.answer.set_result(answer)

    def _next(self) -> list[_Call[Q, A]]:
        batch: list[_Call[Q, A]] = []
        rows = 0
        while self._waiting:
            rows += self._waiting[0].rows
            if batch and rows > self._max_rows:
                break
            batch.append(self._waiting.popleft())
        return batch
