"""Recommendations for any number of users, to a file, in bounded memory."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from contrarec.answers import Answers, Block, warn
from contrarec.errors import ConfigError
from contrarec.files import replacing

BLOCK = 8192
"""Users at a time."""


@dataclass
class Course:
    """What happened while the blocks were made."""

    started: float = field(default_factory=time.perf_counter)
    users: int = 0
    rows: int = 0
    cold: int = 0
    unlisted: int = 0
    error: BaseException | None = None

    def add(self, ids: pl.Series, block: Block) -> None:
        """Count a block."""
        self.users += len(ids)
        self.rows += len(block.frame)
        self.cold += len(block.cold)
        self.unlisted += block.unlisted

    def join(self, part: "Course") -> None:
        """Count what happened to other users, too."""
        self.users += part.users
        self.rows += part.rows
        self.cold += part.cold
        self.unlisted += part.unlisted

    @property
    def seconds(self) -> float:
        """Since the start."""
        return max(time.perf_counter() - self.started, 1e-9)

    def outcome(self) -> dict[str, Any]:
        """Warn of users without what they should get, and return what is reported."""
        if self.cold:
            warn(
                f"{self.cold} of {self.users} users have no training history and get the most "
                "popular items."
            )
        if self.unlisted:
            warn(
                f"{self.unlisted} of {self.users} users have no row in the allowed items and get "
                "nothing."
            )
        seconds = self.seconds
        return {"rows": self.rows, "seconds": seconds, "rows_per_second": self.rows / seconds}


def recommend_to(
    answers: Answers,
    users: pl.Series,
    out: Path,
    k: int = 20,
    *,
    filter_viewed: bool = True,
    exclude: Any = None,
    allow: Any = None,
    explain: bool = False,
    block: int = BLOCK,
    on_block: Callable[[int, int, float], None] | None = None,
) -> dict[str, Any]:
    """Write recommendations block by block; the file appears complete or not at all.

    Memory beside the model and the filters is that of some blocks, however many users there are.

    Args:
        answers: of a trained model.
        users: ids of the vocabulary's type.
        out: a `.parquet` or `.csv` file; one that is there is replaced.
        k: items per user.
        filter_viewed: leave out the items of the user's training history.
        exclude: see `Recommender.recommend`.
        allow: see `Recommender.recommend`.
        explain: add `because_item_id` and `similarity`, the nearest item of the user's history.
        block: users at a time.
        on_block: called after each block but the last with the users and rows so far, and seconds.

    Returns:
        `rows`, `seconds` and `rows_per_second`.

    Raises:
        ConfigError: `block` or `k` is below 1.
        DataError: a frame of items has not the columns that it needs.
    """
    course = Course()
    write_recommendations(
        answers, users, out, course, k, filter_viewed=filter_viewed, exclude=exclude, allow=allow,
        explain=explain, block=block, on_block=on_block,
    )  # fmt: skip
    return course.outcome()


def write_recommendations(
    answers: Answers,
    users: pl.Series,
    out: Path,
    course: Course,
    k: int,
    *,
    filter_viewed: bool,
    exclude: Any,
    allow: Any,
    explain: bool,
    block: int = BLOCK,
    on_block: Callable[[int, int, float], None] | None = None,
) -> None:
    """Do what `recommend_to` does with these arguments; `course` is told what there is to say."""
    if block < 1:
        raise ConfigError(f"`block` must be at least 1, got {block}.")
    rules = answers.rules(exclude, allow)

    def blocks() -> Iterator[pl.DataFrame]:
        for start in range(0, max(len(users), 1), block):  # a table without rows is one, too
            ids = users[start : start + block]
            made = answers.block(ids, k, filter_viewed=filter_viewed, rules=rules)
            course.add(ids, made)
            yield answers.with_reasons(made.frame) if explain else made.frame
            if on_block and course.users < len(users):
                on_block(course.users, course.rows, course.seconds)

    empty = answers.block(users[:0], k, filter_viewed=filter_viewed, rules=rules).frame
    schema = (answers.with_reasons(empty) if explain else empty).schema
    with replacing(out) as temporary:
        _sink(blocks, schema, temporary, out.suffix.lower(), course)


def _sink(
    blocks: Callable[[], Iterator[pl.DataFrame]],
    schema: pl.Schema,
    path: Path,
    suffix: str,
    course: Course,
) -> None:
    from polars.io.plugins import register_io_source

    def source(*_: object) -> Iterator[pl.DataFrame]:
        try:
            yield from blocks()
        except Exception as error:  # polars would make another error of it
            course.error = error
            raise

    frame = register_io_source(source, schema=schema)
    try:
        frame.sink_csv(path) if suffix == ".csv" else frame.sink_parquet(path)
    except pl.exceptions.PolarsError:
        if course.error is not None:
            raise course.error from None
        raise
