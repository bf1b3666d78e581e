"""Fetching a data set: download, check, unpack, convert, and put in place."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from contrarec.data.catalog.archives import extract
from contrarec.data.catalog.download import Progress, download, verify
from contrarec.data.catalog.entries import Entry, cache_folder, find, folder
from contrarec.data.dataset import Dataset
from contrarec.errors import ConfigError, DataError


def fetch(
    name: str,
    *,
    accept: bool = False,
    source: str | Path | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Fetch a data set of the catalogue and convert it; what is there already is only read.

    Archives stay in `<cache>/downloads` and may be deleted; the parts lie in
    `<cache>/data/<name>`, where any command finds them by the name.

    Args:
        name: one of `ENTRIES`.
        accept: whether its licence is accepted; nothing is downloaded without.
        source: an archive or a folder of the user's own to read instead of downloading.
        progress: called with the bytes that have come, and those in all if known.

    Raises:
        ConfigError: it would have to be downloaded, and `accept` is false; the message tells from
            where, how much it is and under which licence.
        DataError: it cannot be downloaded, is not what it should be, or only the user can get it.
    """
    entry = find(name)
    target = folder(name)
    if not target.exists():
        where = Path(source) if source is not None else _own_copy(entry)
        if where is None and not accept:
            raise ConfigError(
                f"`accept` must be true to download. {' '.join(entry.card().split())}."
            )
        where = where or _download(entry, progress)
        _convert(entry, where, target)
    return Dataset.load(target)


def _own_copy(entry: Entry) -> Path | None:
    """Return the folder with the user's own files; None if the data set can be downloaded.

    Raises:
        DataError: it cannot, and there is no such folder.
    """
    if entry.url is not None:
        return None
    place = cache_folder() / "downloads" / entry.name
    if not place.is_dir():
        raise DataError(
            f"{entry.name} can only be had from {entry.page} ({entry.licence}). Ask there for "
            f"access, put {' and '.join(entry.files)} into {place} and fetch it again, or name "
            "your archive or folder (source, --from)."
        )
    return place


def _download(entry: Entry, progress: Progress | None) -> Path:
    archive = cache_folder() / "downloads" / entry.archive
    download(entry.url or "", archive, checksum=entry.checksum, progress=progress)
    return archive


def _convert(entry: Entry, where: Path, target: Path) -> None:
    """Write the parts; they appear complete or not at all."""
    from contrarec.data.catalog.conversions import CONVERTERS

    with _files(entry, where) as (files, origin):
        data = CONVERTERS[entry.name](files)
    steps = (f"{entry.name}: from {origin}", *data.steps)
    replace(data, name=entry.name, steps=steps).save(target)


@contextmanager
def _files(entry: Entry, where: Path) -> Iterator[tuple[dict[str, Path], str]]:
    """Yield the files of a folder or archive by name, and where they come from."""
    if where.is_dir():
        yield _gather(entry, where), str(where)
        return
    if not where.is_file():
        raise DataError(f"{where}: no such file or folder.")
    downloads = cache_folder() / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    digest = verify(where, entry.checksum, record=downloads / entry.archive)
    with TemporaryDirectory(dir=downloads, prefix=f".{entry.name}-") as unpacked:
        files = extract(where, entry.files, Path(unpacked))
        yield files, f"{where.name} (sha256 {digest})"


def _gather(entry: Entry, where: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name in entry.files:
        places = [path for path in where.rglob(name) if path.is_file()]
        if len(places) != 1:
            raise DataError(f"{where}: {len(places)} files called {name} in it, expected one.")
        found[name] = places[0]
    return found
