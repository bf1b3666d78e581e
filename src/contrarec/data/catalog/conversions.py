"""From the files of each data set to the parts that papers train and test on.

A converter takes the files by name and returns a data set. What is random is random with seed 0,
so that everybody has the same parts.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from contrarec.data.dataset import Dataset
from contrarec.data.splits import PopularityShift, Random
from contrarec.errors import DataError

POSITIVE_RATING = 4
"""Ratings from here on are positive, in Coat, Yahoo! R3 and MovieLens."""
POSITIVE_WATCH_RATIO = 2.0
"""Times the length of a video from which on having watched it is positive, in KuaiRec."""

Files = Mapping[str, Path]


def coat(files: Files) -> Dataset:
    """Convert Coat.

    `train.ascii` and `test.ascii` are matrices of 290 users × 300 coats: a line per user, ratings
    from 1 to 5 between blanks, 0 where there is none. Of train's, each user chose 24 coats; of
    test's, each was shown 16 at random. Ids are the row and column numbers from 0.

    The published parts of the AdvInfoNCE paper hold the same pairs with the 295 coats that have a
    positive numbered anew, and 11 positives of the test matrix in train as well. Their validation
    set is 29 % of train's, so here it is, too.
    """
    rated = {part: _matrix(files[f"{part}.ascii"]) for part in ("train", "test")}
    shapes = {part: matrix.shape for part, matrix in rated.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(f"train.ascii and test.ascii must have one shape, got {shapes}.")
    logs = {}
    for part, matrix in rated.items():
        user, item = np.nonzero(matrix)
        logs[part] = pl.DataFrame({"user": user, "item": item, "rating": matrix[user, item]})
    return _self_selected_and_random(logs["train"], logs["test"])


def yahoo_r3(files: Files) -> Dataset:
    """Convert Yahoo! R3.

    `ydata-ymusic-rating-study-v1_0-train.txt` and `…-test.txt`: a line per rating, user, song and
    rating from 1 to 5 between tabs. Of train's, users chose the songs; of test's, 5,400 users
    rated ten songs each that were drawn at random. The validation set is 29 % of train's
    positives, as in the AdvInfoNCE paper's files.
    """
    logs = [
        _table(
            files[f"ydata-ymusic-rating-study-v1_0-{part}.txt"], "\t", ("user", "item", "rating")
        )
        for part in ("train", "test")
    ]
    return _self_selected_and_random(*logs)


def _self_selected_and_random(chosen: pl.DataFrame, shown: pl.DataFrame) -> Dataset:
    positive = {
        part: _at_least(log, "rating", POSITIVE_RATING)
        for part, log in {"train": chosen, "ood": shown}.items()
    }
    data = Dataset.from_parts(train=positive["train"], tests={"ood": positive["ood"]})
    steps = tuple(
        f"{part}: {positive[part].height} of {log.height} ratings are at least {POSITIVE_RATING}"
        for part, log in {"train": chosen, "ood": shown}.items()
    )
    return replace(data, steps=steps + data.steps).split(valid=Random(0.29))


def kuairec(files: Files) -> Dataset:
    """Convert KuaiRec.

    `big_matrix.csv` and `small_matrix.csv` have the columns `user_id`, `video_id`,
    `play_duration`, `video_duration`, `time`, `date`, `timestamp` and `watch_ratio`. In the small
    one 1,411 users have watched nearly all of 3,327 videos, so that what they were shown decides
    nothing; a third of its positives is the validation set and two thirds are the test, as in the
    AdvInfoNCE paper's files. Videos that only the big matrix has are never ranked. Times stay in
    train alone: some of the small matrix's are missing.
    """
    ratio = pl.col("watch_ratio") >= POSITIVE_WATCH_RATIO
    big, small = (pl.scan_csv(files[f"{size}_matrix.csv"]) for size in ("big", "small"))
    with _reading("big_matrix.csv, small_matrix.csv"):
        videos = [
            log.select(pl.col("video_id").unique()).collect(engine="streaming")["video_id"]
            for log in (big, small)
        ]
        train, held_out = (
            log.filter(ratio).select(*columns).collect(engine="streaming")
            for log, columns in (
                (big, ("user_id", "video_id", "timestamp")),
                (small, ("user_id", "video_id")),
            )
        )
    parts = Dataset.from_frame(held_out, item="video_id").split(tests={"ood": Random(2 / 3)})
    data = Dataset.from_parts(
        train=train,
        valid=parts.train,
        tests={"ood": parts.tests["ood"].truth},
        not_candidates=videos[0].filter(~videos[0].is_in(videos[1].implode())),
        item="video_id",
    )
    steps = (
        f"train: the big matrix's {train.height} views with a watch ratio of at least "
        f"{POSITIVE_WATCH_RATIO:g}",
        f"valid, ood: the small matrix's {held_out.height}, a third and two thirds, seed 0",
    )
    return replace(data, steps=steps + data.steps)


def kuairand_pure(files: Files) -> Dataset:
    """Convert KuaiRand-Pure.

    Three tables, among whose columns are `user_id`, `video_id`, `time_ms` and `is_click`:
    `log_standard_4_08_to_4_21_pure.csv` and `log_standard_4_22_to_5_08_pure.csv` of what was
    recommended, `log_random_4_22_to_5_08_pure.csv` of videos that were put in at random. Clicks
    are positive; a tenth of the recommended ones is the validation set.
    """
    kept = {}
    for name in files:
        with _reading(name):
            clicks = pl.scan_csv(files[name]).filter(pl.col("is_click") == 1)
            kept[name] = clicks.select("user_id", "video_id", "time_ms").collect(engine="streaming")
    standard = [log for name, log in kept.items() if name.startswith("log_standard")]
    (random,) = (log for name, log in kept.items() if name.startswith("log_random"))
    train = pl.concat(standard)
    data = Dataset.from_parts(
        train=train, tests={"ood": random}, user="user_id", item="video_id", time="time_ms"
    )
    steps = (
        f"train: {train.height} clicks on what was recommended",
        f"ood: {random.height} clicks on what was shown at random",
    )
    return replace(data, steps=steps + data.steps).split(valid=Random(0.1))


_COLUMNS = ("user", "item", "rating", "time")


def ml_100k(files: Files) -> Dataset:
    """Convert MovieLens 100K: `u.data`, user, film, rating and second between tabs."""
    return _movielens(_table(files["u.data"], "\t", _COLUMNS))


def ml_1m(files: Files) -> Dataset:
    """Convert MovieLens 1M: `ratings.dat`, user, film, rating and second between double colons."""
    # a separator is one character: between two colons there is an empty field
    return _movielens(_table(files["ratings.dat"], ":", _COLUMNS, places=(0, 2, 4, 6)))


def ml_latest_small(files: Files) -> Dataset:
    """Convert MovieLens latest-small: `ratings.csv` with a header, ratings from 0.5 to 5."""
    return _movielens(_table(files["ratings.csv"], ",", _COLUMNS, header=True))


def _movielens(log: pl.DataFrame) -> Dataset:
    """Split the positives: a tenth `id`, a tenth of the rest `shifted` (γ = 2), then a tenth valid.

    There is no test with random exposure in MovieLens: `shifted` is made from the log itself.
    """
    positive = _at_least(log, "rating", POSITIVE_RATING)
    data = Dataset.from_frame(positive)
    steps = (f"train: {positive.height} of {log.height} ratings are at least {POSITIVE_RATING}",)
    return replace(data, steps=steps + data.steps).split(
        tests={"id": Random(0.1), "shifted": PopularityShift(gamma=2)}, valid=Random(0.1)
    )


CONVERTERS: dict[str, Callable[[Files], Dataset]] = {
    "coat": coat,
    "yahoo-r3": yahoo_r3,
    "kuairec": kuairec,
    "kuairand-pure": kuairand_pure,
    "ml-100k": ml_100k,
    "ml-1m": ml_1m,
    "ml-latest-small": ml_latest_small,
}
"""By the name in the catalogue."""


def _matrix(path: Path) -> np.ndarray:
    try:
        return np.loadtxt(path, dtype=np.int64, ndmin=2)
    except ValueError as error:
        raise DataError(f"{path.name}: not a matrix of whole numbers ({error}).") from None


def _table(
    path: Path,
    separator: str,
    columns: tuple[str, ...],
    *,
    places: tuple[int, ...] | None = None,
    header: bool = False,
) -> pl.DataFrame:
    """Read columns of numbers; without `places` the first ones."""
    with _reading(path.name):
        frame = pl.read_csv(
            path,
            separator=separator,
            has_header=header,
            columns=list(places or range(len(columns))),
            infer_schema=False,
            encoding="utf8-lossy",
        )
        frame.columns = list(columns)
        return frame.with_columns(
            pl.col("rating").cast(pl.Float64), pl.exclude("rating").cast(pl.Int64)
        )


def _at_least(log: pl.DataFrame, column: str, least: float) -> pl.DataFrame:
    """Keep the positives, and forget how positive they are."""
    return log.filter(pl.col(column) >= least).drop(column)


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{name}: not what it should be ({str(error).splitlines()[0]}).") from None
