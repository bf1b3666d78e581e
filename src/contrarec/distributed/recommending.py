"""Recommendations by several workers: each writes those of its users, the driver joins them."""

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from contrarec.answers import Answers
from contrarec.distributed.cluster import Launch, cluster, load_ray
from contrarec.distributed.parts import cut_rows, join_tables
from contrarec.distributed.tasks import Tasks
from contrarec.serving.batch import BLOCK, Course, write_recommendations
from contrarec.serving.stored import MANY_SCORES, open_model, open_run


def recommend_together(
    run: Path,
    answers: Answers,
    users: pl.Series,
    out: Path,
    k: int = 20,
    *,
    launch: Launch,
    block: int = BLOCK,
    on_part: Callable[[int, int, float], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Write what `contrarec.serving.batch.recommend_to` would, by several workers.

    Memory is that of `recommend_to`, in the driver and in each worker.

    Args:
        run: folder of the run, which all machines see.
        answers: of that run.
        users: ids of the vocabulary's type.
        out: a `.parquet` or `.csv` file, in a folder that all machines see.
        k: items per user.
        launch: how many workers, and where.
        block: users at a time.
        on_part: called after each part but the last with the users and rows so far, and seconds.
        **options: `filter_viewed`, `exclude`, `allow`, `explain`, as for `recommend_to`.

    Returns:
        `rows`, `seconds` and `rows_per_second`.

    Raises:
        DataError: a frame of items has not the columns that it needs.
        BackendError: Ray is not installed, has too little to give, or workers died again and again.
    """
    answers.rules(options["exclude"], options["allow"])  # says here what is wrong with them
    course, out = Course(), out.resolve()
    folder = out.with_name(f".{out.name}.{os.getpid()}.parts")
    parts = cut_rows(len(users), launch.workers, block)
    files = [folder / f"part-{number:05d}{out.suffix}" for number in range(len(parts))]
    many = len(users) * len(answers.items) > MANY_SCORES
    ray = load_ray(local=launch.address is None)
    with cluster(ray, launch) as on_gpu:
        device, asked = "cuda" if on_gpu else "cpu", options | {"block": block}
        calls = [
            (run.resolve(), many, device, users[part], file, k, asked)
            for part, file in zip(parts, files, strict=True)
        ]
        try:
            folder.mkdir()
            for _, done in Tasks(ray, launch, on_gpu=on_gpu).run(_write, calls):
                course.join(done)
                if on_part and course.users < len(users):
                    on_part(course.users, course.rows, course.seconds)
            join_tables(files, out)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return course.outcome()


def _write(
    run: Path, many: bool, device: str, users: pl.Series, out: Path, k: int, options: dict[str, Any]
) -> Course:
    """Write the recommendations for some of the users; `many`: whether all of them are."""
    course = Course()
    answers = (open_model if many else open_run)(run, device=device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the filters, which the driver has said
        write_recommendations(answers, users, out, course, k, **options)
    return course
