"""Files out of archives that nobody vouches for."""

import gzip
import re
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO
from zipfile import BadZipFile, ZipFile, is_zipfile

from contrarec.errors import DataError

_CHUNK = 1 << 18


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What an archive may hold."""

    members: int = 10_000
    """Files and folders."""
    size: int = 16 << 30
    """Bytes, unpacked."""
    ratio: int = 200
    """Unpacked bytes to each of the archive's."""
    free: int = 64 << 20
    """Unpacked bytes that may come of any archive, however small."""

    def bytes_of(self, archive: Path) -> int:
        """Return how many bytes may come out of an archive."""
        return min(self.size, max(self.ratio * archive.stat().st_size, self.free))


def extract(
    archive: Path, wanted: tuple[str, ...], folder: Path, limits: Limits | None = None
) -> dict[str, Path]:
    """Take files out of a `.zip` or `.tar.gz`, wherever in it they lie.

    Nothing is written but the wanted files, straight into the folder. An archive with a path that
    leads out of it, a link, a device or anything else but files and folders is refused as a whole,
    before or while it is read. Bytes are counted as they come, whatever the archive says.

    Args:
        archive: the file.
        wanted: names without folders; each must be there once.
        folder: where to, an existing folder.
        limits: what the archive may hold.

    Returns:
        The file of each name.

    Raises:
        DataError: the archive is broken, unsafe or too large, or a file is not in it.
    """
    limits = limits or Limits()
    found: dict[str, Path] = {}
    with _blaming(archive):
        members = _zipped(archive, limits) if is_zipfile(archive) else _tarred(archive, limits)
        budget = limits.bytes_of(archive)
        for name, open_member in members:
            base = name.rpartition("/")[2]
            if base not in wanted:
                continue
            if base in found:
                raise DataError(f"{archive}: {base} is in it twice.")
            found[base] = folder / base
            with open_member() as stream, found[base].open("xb") as file:
                budget = _copy(stream, file, budget, archive)
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(f"{archive}: {', '.join(missing)} not in it.")
    return found


Members = Iterator[tuple[str, Callable[[], IO[bytes]]]]
"""The path of each file, and what opens it; to be opened before the next one comes."""


def _zipped(archive: Path, limits: Limits) -> Members:
    with ZipFile(archive) as file:
        members = file.infolist()
        _require_few(len(members), archive, limits)
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            _require_safe(member.filename, plain, archive)
        if sum(member.file_size for member in members) > limits.bytes_of(archive):
            raise _too_large(archive)
        for member in members:
            if not member.is_dir():
                yield member.filename, partial(file.open, member)


def _tarred(archive: Path, limits: Limits) -> Members:
    with gzip.open(archive) as unpacked:
        counted = _Counted(unpacked, limits.bytes_of(archive), archive)
        with tarfile.open(fileobj=counted, mode="r|") as file:  # type: ignore[call-overload]
            for number, member in enumerate(file, start=1):
                _require_few(number, archive, limits)
                _require_safe(member.name, member.isreg() or member.isdir(), archive)
                if member.isreg():
                    yield member.name, partial(file.extractfile, member)


class _Counted:
    """A stream that ends with an error after so many bytes."""

    def __init__(self, stream: gzip.GzipFile, budget: int, archive: Path) -> None:
        self._stream, self._budget, self._archive = stream, budget, archive

    def read(self, n: int) -> bytes:
        """Read up to n bytes."""
        data = self._stream.read(n)
        self._budget -= len(data)
        if self._budget < 0:
            raise _too_large(self._archive)
        return data


def _copy(source: IO[bytes], target: IO[bytes], budget: int, archive: Path) -> int:
    """Copy a member, and return what is left of the bytes that may come."""
    while chunk := source.read(_CHUNK):
        budget -= len(chunk)
        if budget < 0:
            raise _too_large(archive)
        target.write(chunk)
    return budget


def _require_few(members: int, archive: Path, limits: Limits) -> None:
    if members > limits.members:
        raise DataError(f"{archive}: more than {limits.members} files in it.")


def _require_safe(name: str, plain: bool, archive: Path) -> None:
    outside = name.startswith(("/", "\\")) or re.match("[A-Za-z]:", name)
    if outside or ".." in re.split(r"[/\\]", name):
        raise DataError(f"{archive}: {name!r} leads out of it; the archive is not safe.")
    if not plain:
        raise DataError(f"{archive}: {name!r} is no file or folder; the archive is not safe.")


def _too_large(archive: Path) -> DataError:
    return DataError(f"{archive}: unpacks to more than can be right; the archive is not safe.")


@contextmanager
def _blaming(archive: Path) -> Iterator[None]:
    try:
        yield
    except (
        BadZipFile, tarfile.TarError, zlib.error, EOFError,
        gzip.BadGzipFile, NotImplementedError, RuntimeError,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{archive}: not a sound archive ({reason}).") from None
