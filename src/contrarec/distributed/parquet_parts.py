"""A data set as folders of Parquet parts, wherever Arrow finds it: which file is of which part.

    FOLDER/train/*.parquet  valid/*.parquet  test/*.parquet  test_ood/*.parquet  not_candidate.txt

A part may be a single file, too: `valid.parquet`. Folders may be nested: `train/day=3/….parquet`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from contrarec.data.columns import ColumnNames
from contrarec.data.folder import NOT_CANDIDATE, find_parts, ids_of_lines, part_name
from contrarec.data.readers import SUFFIXES
from contrarec.errors import BackendError, ContrarecError, DataError


@dataclass(frozen=True, kw_only=True)
class PartedData:
    """Where the parts of a data set are; nothing of them has been read yet."""

    name: str
    """Of the folder."""
    path: str
    """The folder: an absolute path, or an address such as `s3://bucket/log`."""
    files: dict[str, list[str]]
    """Paths within the file system, ascending, of `train`, `valid` and each test set."""
    columns: ColumnNames
    """Names of columns that were asked for."""
    not_candidates: list[str] | None = None
    """Ids of items that are never ranked."""
    ignored: tuple[str, ...] = ()
    """Data files of the folder that are no part."""


def is_address(path: str) -> bool:
    """Whether this is an address for Arrow rather than a path."""
    return "://" in path


def is_parted(path: str) -> bool:
    """Whether this is an address, or a folder of which a part is a folder of Parquet files.

    Raises:
        DataError: it is a folder without train.
    """
    if is_address(path):
        return True
    return Path(path).is_dir() and any(part.is_dir() for part in find_parts(Path(path))[0].values())


def find_parted(path: str, columns: ColumnNames) -> PartedData:
    """List the files of a data set, without reading them.

    Args:
        path: a folder, or the address of one.
        columns: names of columns, the same in every file.

    Raises:
        DataError: there is no such folder or file system, no train, a part that is there twice, or
            a part that is not Parquet.
        BackendError: pyarrow is not installed.
    """
    where = path if is_address(path) else str(Path(path).resolve())
    with blaming(path):
        system, root = file_system(where)
        where = root if system.type_name == "local" else where
        names = _list(system, root)
        files, ignored = _group(names, path)
        not_candidates = None
        if NOT_CANDIDATE in names:
            with system.open_input_stream(f"{root}/{NOT_CANDIDATE}") as stream:
                text = stream.read().decode("utf-8-sig", errors="replace")
            not_candidates = ids_of_lines(text, f"{path}/{NOT_CANDIDATE}")
    return PartedData(
        name=PurePosixPath(root).name or "data",
        path=where,
        files={part: [f"{root}/{name}" for name in found] for part, found in files.items()},
        columns=columns,
        not_candidates=not_candidates,
        ignored=ignored,
    )


def file_system(path: str) -> tuple[Any, str]:
    """Return Arrow's file system for a path or address, and the path within it.

    Raises:
        BackendError: pyarrow is not installed.
    """
    try:
        from pyarrow.fs import FileSystem
    except ImportError as error:
        raise BackendError(
            f"reading parts needs pyarrow ({error}): pip install 'contrarec[dist]'"
        ) from None
    system, root = FileSystem.from_uri(path)
    return system, root.rstrip("/")


@contextmanager
def blaming(where: str) -> Iterator[None]:
    """Turn what Arrow raises into one line that starts with the file."""
    try:
        yield
    except ContrarecError:
        raise  # says where by itself
    except (OSError, ValueError, TypeError, KeyError) as error:  # Arrow's own errors are these
        cause = (str(error).strip().splitlines() or [repr(error)])[0]
        raise DataError(f"{where}: cannot be read ({cause}).") from None


def _list(system: Any, root: str) -> list[str]:
    """Return the paths of all files below a folder, relative to it, ascending."""
    from pyarrow.fs import FileSelector, FileType

    found = system.get_file_info(FileSelector(root, recursive=True))
    return sorted(
        str(PurePosixPath(info.path).relative_to(root))
        for info in found
        if info.type == FileType.File
    )


def _group(names: list[str], where: str) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """Return the files of each part, and the data files that are none; both in order."""
    files: dict[str, list[str]] = {}
    homes: dict[str, str] = {}
    ignored = []
    for name in names:
        path = PurePosixPath(name)
        single = len(path.parts) == 1
        if (path.suffix.lower() not in SUFFIXES and single) or name == NOT_CANDIDATE:
            continue
        if any(folder.startswith(("_", ".")) for folder in path.parts):
            continue  # what Spark and others leave behind
        home = path.parts[0]
        part = part_name(path.stem if single else home)
        if part is None:
            ignored += [name] if single else []
            continue
        if path.suffix.lower() != ".parquet":
            raise DataError(f"{where}/{name}: with parts, every file must be Parquet.")
        if homes.setdefault(part, home) != home:
            raise DataError(f"{where}/{name}: the part {part!r} is also in {homes[part]}.")
        files.setdefault(part, []).append(name)
    if "train" not in files:
        raise DataError(f"{where}: no train; expected train/*.parquet or train.parquet.")
    ordered = sorted(files, key=lambda part: (part != "train", part != "valid"))
    return {part: files[part] for part in ordered}, tuple(ignored)
