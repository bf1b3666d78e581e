"""What the sub-commands read: data sets, lists of ids."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contrarec.errors import DataError

if TYPE_CHECKING:
    import polars as pl

    from contrarec.data.dataset import Dataset
    from contrarec.data.interactions import Interactions
    from contrarec.data.vocabulary import Vocabulary

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A folder of split files (train, valid, test, test_NAME as .txt adjacency lists, "
        ".csv, .tsv, .parquet or .inter, or as folders of .parquet), a single log file, or a name "
        "that was fetched.",
    ),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a trained run.")]
UserCol = Annotated[
    str | None, typer.Option(metavar="NAME", help="Column with the user ids (not for .txt).")
]
ItemCol = Annotated[str | None, typer.Option(metavar="NAME", help="Column with the item ids.")]
TimeCol = Annotated[str | None, typer.Option(metavar="NAME", help="Column with the times.")]
WeightCol = Annotated[str | None, typer.Option(metavar="NAME", help="Column with the weights.")]

ID_FILES = (".txt", ".csv", ".tsv", ".parquet")
VALID_SHARE = 0.1


def load_data(
    path: str,
    user_col: str | None = None,
    item_col: str | None = None,
    time_col: str | None = None,
    weight_col: str | None = None,
) -> "Dataset":
    """Read the data set at `path`.

    Raises:
        DataError: there is nothing there, or a file is broken.
    """
    from contrarec.data.dataset import Dataset

    if "://" in path:
        raise DataError(f"{path}: an address is read by `contrarec train` with --workers alone.")
    data = Dataset.load(path, user=user_col, item=item_col, time=time_col, weight=weight_col)
    # a run remembers where its data are, and may be evaluated from another folder
    return replace(data, path=str(Path(data.path).resolve()))


def with_valid(data: "Dataset") -> "Dataset":
    """Take a validation set out of a single log; a data set of several files stays as it is.

    The same log always gives the same parts, so that a run can be evaluated on what it was not
    trained on, and runs with several seeds are about the same data.
    """
    if data.valid or data.tests or not Path(data.path).is_file():
        return data
    from contrarec.data.splits import Random

    return data.split(valid=Random(VALID_SHARE))


def as_test_set(log: "Dataset", history: "Interactions") -> "Dataset":
    """Make a log the only test set beside the history that a run was trained on."""
    from contrarec.data.dataset import Dataset

    name = file_name(log.name.removeprefix("test_"))
    return Dataset.from_parts(train=history, tests={name: log.train}, name=log.name, path=log.path)


def read_ids(given: str, vocabulary: "Vocabulary", kind: str) -> "pl.Series":
    """Read ids from a file, or take them from the command line.

    Args:
        given: a file with one id a line (`.txt`), or with a column of ids (`.csv`, `.tsv`,
            `.parquet`), or the ids themselves between commas.
        vocabulary: the ids that a run knows; those that are read get their type.
        kind: `user` or `item`.

    Raises:
        DataError: there is no such file, no id in it, or an id cannot be one of this run's.
    """
    import polars as pl

    path = Path(given)
    if path.is_file():
        ids, where = _ids_of_file(path, kind), str(path)
    elif path.suffix.lower() in ID_FILES and given not in vocabulary.ids.cast(pl.String):
        raise DataError(f"{given}: no such file.")
    else:
        parts = [part.strip() for part in given.split(",")]
        ids, where = pl.Series([part for part in parts if part], dtype=pl.String), f"--{kind}s"
    if ids.is_empty():
        raise DataError(f"{where}: no {kind} ids.")
    converted = ids.cast(vocabulary.ids.dtype, strict=False)
    if converted.has_nulls():
        wrong = ids.filter(converted.is_null())[0]
        rule = (
            "must be whole numbers, as in the data of this run" if wrong else "must not be missing"
        )
        raise DataError(f"{where}: {kind} ids {rule}, got {wrong!r}.")
    return converted.unique(maintain_order=True).alias(f"{kind}_id")


def read_items(path: Path) -> "pl.DataFrame":
    """Read a list of items, or a table with users or availability, as `ItemRules` takes them.

    Args:
        path: one id a line (`.txt`), or a table (`.csv`, `.tsv`, `.parquet`).

    Raises:
        DataError: there is no such file, it cannot be read, or it has no column of items.
    """
    from contrarec.data.columns import USUAL_NAMES

    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    frame = read_table(path)
    if frame.width > 1 and not {name.lower() for name in frame.columns} & {*USUAL_NAMES["item"]}:
        raise DataError(
            f"{path}: no column is called {' or '.join(USUAL_NAMES['item'])}; "
            f"columns: {', '.join(frame.columns)}."
        )
    return frame


def read_table(path: Path) -> "pl.DataFrame":
    """Read a table; that of a text file has one column, `id`.

    Raises:
        DataError: it cannot be read.
    """
    import polars as pl

    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            return pl.read_parquet(path)
        if suffix in (".csv", ".tsv"):
            separator = "," if suffix == ".csv" else "\t"
            return pl.read_csv(path, separator=separator, infer_schema=False)
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]}).") from error
    return pl.DataFrame({"id": [line.strip() for line in lines if line.strip()]}, {"id": pl.String})


def _ids_of_file(path: Path, kind: str) -> "pl.Series":
    from contrarec.data.columns import USUAL_NAMES

    frame = read_table(path)
    names = [name for name in frame.columns if name.lower() in USUAL_NAMES[kind]]
    if not names and frame.width > 1:
        raise DataError(
            f"{path}: no column is called {' or '.join(USUAL_NAMES[kind])}; "
            f"columns: {', '.join(frame.columns)}."
        )
    return frame[(names or frame.columns)[0]]


def file_name(text: str) -> str:
    """Make a text fit to be part of a file's name.

    >>> file_name("mylosses:Sharp InfoNCE")
    'mylosses-Sharp-InfoNCE'
    """
    return re.sub(r"[^\w.-]+", "-", text)
