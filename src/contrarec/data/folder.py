"""A data set as a folder: which file is which part, and writing one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from contrarec.data.interactions import Interactions
from contrarec.data.parquet import parquet_files, write_log
from contrarec.data.readers import SUFFIXES
from contrarec.errors import DataError
from contrarec.files import new_folder, replacing

NOT_CANDIDATE = "not_candidate.txt"
"""One item id a line: items of the folder that are never ranked."""
FALSE_NEGATIVES = "false_negatives"
"""Stem of the file, beside the parts, with pairs that are liked although no log has them."""


def find_parts(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Find the files of `train`, `valid`, `test` and `test_<name>` in a folder.

    A part may be a folder of Parquet files, too, which together are its log.

    Returns:
        The file of each part, `test_ood.txt` under `ood`; and the names of other data files.

    Raises:
        DataError: there is no train file, or a part has two files.
    """
    found: dict[str, Path] = {}
    others = []
    for file in sorted(folder.iterdir()):
        is_folder = file.is_dir()
        if not is_folder and (file.suffix.lower() not in SUFFIXES or file.name == NOT_CANDIDATE):
            continue
        if file.stem == FALSE_NEGATIVES:
            continue
        part = part_name(file.name if is_folder else file.stem)
        if is_folder and not (part and parquet_files(file)):
            continue
        if part is None:
            others.append(file.name)
            continue
        if part in found:
            raise DataError(f"{file}: the part {part!r} is also in {found[part].name}.")
        found[part] = file
    if "train" not in found:
        expected = ", ".join(f"train{suffix}" for suffix in SUFFIXES)
        raise DataError(f"{folder}: no train file; expected one of {expected}, or a folder train.")
    return found, others


def part_name(stem: str) -> str | None:
    """Return the part that a file or folder of this name is; None if it is none.

    >>> part_name("test_ood"), part_name("train"), part_name("items")
    ('ood', 'train', None)
    """
    if stem not in ("train", "valid", "test") and not stem.startswith("test_"):
        return None
    return stem.removeprefix("test_")


def read_not_candidates(folder: Path) -> list[str] | None:
    """Read the ids of items that are never ranked; None if the folder does not list any.

    Raises:
        DataError: a line holds more than one id.
    """
    path = folder / NOT_CANDIDATE
    if not path.exists():
        return None
    return ids_of_lines(path.read_text(encoding="utf-8-sig", errors="replace"), str(path))


def ids_of_lines(text: str, where: str) -> list[str]:
    """Return the ids of a text with one a line.

    Raises:
        DataError: a line holds more than one id; the message starts with `where`.
    """
    ids = []
    for number, line in enumerate(text.splitlines(), start=1):
        if len(line.split()) > 1:
            raise DataError(f"{where}:{number}: expected one item id, got {line[:40]!r}.")
        ids += line.split()
    return ids


def find_false_negatives(folder: Path) -> Path | None:
    """Find the file of known false negatives in a folder; None if there is none."""
    files = (folder / f"{FALSE_NEGATIVES}{suffix}" for suffix in SUFFIXES)
    return next((file for file in files if file.is_file()), None)


def write_parts(
    folder: Path,
    parts: Mapping[str, Interactions],
    not_candidates: pl.Series | None,
    steps: Sequence[str] = (),
) -> None:
    """Write each part as a Parquet file of ids, in the layout that `find_parts` finds.

    Args:
        folder: must not hold anything yet; it appears complete or not at all.
        parts: by name.
        not_candidates: ids of items that are never ranked, or None.
        steps: what was done to the data; the file of train says so.

    Raises:
        DataError: the folder is not empty, or cannot be written.
    """
    with new_folder(folder) as temporary:
        for name, log in parts.items():
            stem = name if name in ("train", "valid", "test") else f"test_{name}"
            done = steps if name == "train" else ()
            write_log(_frame(log), temporary / f"{stem}.parquet", done)
        if not_candidates is not None:
            text = "".join(f"{item}\n" for item in not_candidates)
            (temporary / NOT_CANDIDATE).write_text(text, encoding="utf-8")


def write_false_negatives(folder: Path, log: Interactions) -> None:
    """Write known false negatives beside the parts of a folder, where they are found again."""
    with replacing(folder / f"{FALSE_NEGATIVES}.parquet") as temporary:
        _frame(log).write_parquet(temporary)


def _frame(log: Interactions) -> pl.DataFrame:
    columns: dict[str, Any] = {
        "user_id": log.users.take(log.rows),
        "item_id": log.items.take(log.indices),
    }
    columns |= {} if log.time is None else {"time": log.time}
    columns |= {} if log.weight is None else {"weight": log.weight}
    return pl.DataFrame(columns)
