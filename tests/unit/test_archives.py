"""Archives that are sound, broken, or made to do harm."""

import gzip
import io
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pytest

from contrarec.data.catalog.archives import Limits, extract
from contrarec.errors import DataError

Members = dict[str, bytes]
WANTED = ("a.txt", "b.txt")
GOOD = {"set/": b"", "set/a.txt": b"alpha", "set/deep/b.txt": b"beta" * 999, "set/other": b"x"}


def make_zip(path: Path, members: Members, kinds: dict[str, int] | None = None) -> Path:
    with ZipFile(path, "w", ZIP_DEFLATED) as file:
        for name, content in members.items():
            info = ZipInfo(name)
            info.compress_type = ZIP_DEFLATED
            info.external_attr = ((kinds or {}).get(name, stat.S_IFREG) | 0o644) << 16
            file.writestr(info, content)
    return path


def make_tar(path: Path, members: Members, kinds: dict[str, bytes] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.type = (kinds or {}).get(name, tarfile.DIRTYPE if name[-1] == "/" else b"0")
            info.linkname = content.decode() if info.type in b"12" else ""
            info.size = len(content) if info.type == b"0" else 0
            file.addfile(info, io.BytesIO(content))
    return path


MAKERS: list[Callable[..., Path]] = [make_zip, make_tar]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    return tmp_path / "outer" / "inner"


@pytest.mark.parametrize("make", MAKERS)
def test_only_what_is_wanted_is_written(make: Callable[..., Path], folder: Path) -> None:
    found = extract(make(folder.parent / "data", GOOD), WANTED, folder)
    assert found == {name: folder / name for name in WANTED}
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        "a.txt": b"alpha",
        "b.txt": b"beta" * 999,
    }


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    "name",
    ["/a.txt", "../a.txt", "set/../../a.txt", "..\\a.txt", "C:a.txt", "\\a.txt", "set/..", "../x"],
)
def test_a_path_that_leads_out_is_refused(
    make: Callable[..., Path], folder: Path, name: str
) -> None:
    archive = make(folder.parent / "data", {name: b"evil", **GOOD})
    with pytest.raises(DataError, match="leads out of it; the archive is not safe"):
        extract(archive, WANTED, folder)
    assert list(folder.iterdir()) == []
    assert [file.name for file in folder.parent.iterdir() if file.is_file()] == ["data"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_are_refused_in_tar(folder: Path, kind: bytes) -> None:
    archive = make_tar(folder.parent / "d", {"a.txt": b"/etc/passwd", **GOOD}, {"a.txt": kind})
    with pytest.raises(DataError, match=r"'a.txt' is no file or folder"):
        extract(archive, WANTED, folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_are_refused_in_zip(folder: Path, kind: int) -> None:
    archive = make_zip(folder.parent / "d", {**GOOD, "z": b"/etc/passwd"}, {"z": kind})
    with pytest.raises(DataError, match="'z' is no file or folder"):
        extract(archive, WANTED, folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("make", MAKERS)
def test_limits(make: Callable[..., Path], folder: Path) -> None:
    archive = make(folder.parent / "data", GOOD)
    with pytest.raises(DataError, match="more than 3 files in it"):
        extract(archive, WANTED, folder, Limits(members=3))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("limits", [Limits(size=500_000), Limits(ratio=200, free=500_000)])
@pytest.mark.parametrize("name", ["a.txt", "ballast"])  # also where nobody wants it
def test_bombs(make: Callable[..., Path], folder: Path, limits: Limits, name: str) -> None:
    bomb = make(folder.parent / "bomb", {name: bytes(2_000_000)})
    assert bomb.stat().st_size * 500 < 2_000_000
    with pytest.raises(DataError, match="unpacks to more than can be right"):
        extract(bomb, ("a.txt",), folder, limits)
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 500_000
    if name == "a.txt":
        extract(bomb, ("a.txt",), folder.parent)


@pytest.mark.parametrize("make", MAKERS)
def test_what_is_missing_or_there_twice(make: Callable[..., Path], folder: Path) -> None:
    archive = make(folder.parent / "data", GOOD)
    with pytest.raises(DataError, match=r"c.txt, d.txt not in it"):
        extract(archive, ("c.txt", "a.txt", "d.txt"), folder)
    twice = make(folder.parent / "twice", {"x/b.txt": b"1", "y/b.txt": b"2"})
    with pytest.raises(DataError, match=r"b.txt is in it twice"):
        extract(twice, ("b.txt",), folder)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_archive(make: Callable[..., Path], folder: Path, share: float) -> None:
    archive = make(folder.parent / "data", GOOD)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match="not a sound archive"):
        extract(archive, WANTED, folder)


def test_spoilt_bytes_are_noticed(folder: Path) -> None:
    archive = make_zip(folder.parent / "data", {"a.txt": b"alpha beta gamma"})
    content = bytearray(archive.read_bytes())
    place = content.index(b"a.txt") + 6
    content[place] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(DataError, match="not a sound archive"):
        extract(archive, ("a.txt",), folder)


def test_what_is_no_archive(folder: Path) -> None:
    page = folder.parent / "page"
    for content in (b"<html>please log in</html>", b"", gzip.compress(b"no tar in here")):
        page.write_bytes(content)
        with pytest.raises(DataError, match="not a sound archive"):
            extract(page, WANTED, folder)
