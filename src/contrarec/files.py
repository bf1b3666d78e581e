"""Writing files so that a reader sees the old one or the new one, never half of one."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from contrarec.errors import DataError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced to disk and takes its place.

    If the block raises, `path` is left as it was and the temporary file is removed.

    Args:
        path: the file to write; its folder must exist. Of a link, the file that it points to.

    Raises:
        DataError: `path` is there and no regular file: a folder, or a device such as /dev/null,
            which would be gone.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is no regular file, and would be replaced; choose another name.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # safetensors makes private files; who may read is the umask's choice
        put_in_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def put_in_place(temporary: Path, path: Path) -> None:
    """Sync a finished file to disk and let it take the place of `path`, in the same folder."""
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)


def write_text(path: Path, text: str) -> None:
    """Replace the text file `path`, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder that takes the place of `folder` if the block succeeds.

    Args:
        folder: must not hold anything yet.

    Raises:
        DataError: it is not empty, or cannot be written.
    """
    temporary = folder.absolute().with_name(f".{folder.absolute().name}.{os.getpid()}.tmp")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"{folder}: already there and not an empty folder.")
        temporary.mkdir(parents=True)
        yield temporary
        temporary.replace(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}).") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
