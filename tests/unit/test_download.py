"""Downloads from a website on loopback: what breaks, what goes on, what is refused."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request

import pytest
from filelock import FileLock

from contrarec.data.catalog import download as module
from contrarec.data.catalog.download import TRIES, download
from contrarec.errors import DataError
from website import Website, website

CONTENT = bytes(range(256)) * 40  # 10240 bytes
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
MD5 = f"md5:{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Website]:
    monkeypatch.setattr(module, "PAUSE", 0.0)
    with website() as site:
        site.content = CONTENT
        yield site


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "data.zip"


def left(path: Path) -> set[str]:
    return {file.name for file in path.parent.iterdir() if file.suffix != ".lock"}


@pytest.mark.parametrize("checksum", [SHA256, MD5])
def test_a_file_arrives_complete_and_alone(site: Website, path: Path, checksum: str) -> None:
    seen: list[tuple[int, int | None]] = []
    digest = download(site.url, path, checksum=checksum, progress=lambda *done: seen.append(done))
    assert path.read_bytes() == CONTENT
    assert f"sha256:{digest}" == SHA256
    assert left(path) == {"data.zip"}
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert download(site.url, path, checksum=checksum) == digest
    assert len(site.asked) == 1  # what is there is checked, not asked for again


def test_a_server_that_dies_midway_is_asked_for_the_rest(site: Website, path: Path) -> None:
    site.dies_after = [4000, 3000]
    download(site.url, path, checksum=SHA256)
    assert path.read_bytes() == CONTENT
    assert site.asked == [(None, None), ("bytes=4000-", '"v1"'), ("bytes=7000-", '"v1"')]


def test_a_later_call_goes_on(site: Website, path: Path) -> None:
    site.dies_after = [4000] + [0] * TRIES
    with pytest.raises(DataError, match="4000 bytes are kept, and another try goes on there"):
        download(site.url, path, checksum=SHA256)
    assert not path.exists()
    assert len(site.asked) == TRIES
    site.dies_after, site.asked = [], []
    download(site.url, path, checksum=SHA256)
    assert site.asked == [("bytes=4000-", '"v1"')]
    assert path.read_bytes() == CONTENT


def test_another_version_starts_again(site: Website, path: Path) -> None:
    site.dies_after = [4000] + [0] * TRIES
    with pytest.raises(DataError):
        download(site.url, path)
    site.dies_after, site.content, site.etag = [], CONTENT[::-1], '"v2"'
    download(site.url, path)
    assert path.read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize(
    ("etag", "modified", "ranges", "asked"),
    [
        ('"v1"', None, False, ("bytes=4000-", '"v1"')),  # it does not know ranges
        (None, "Fri, 01 Nov 2024 10:00:00 GMT", True,
         ("bytes=4000-", "Fri, 01 Nov 2024 10:00:00 GMT")),
        ('W/"v1"', None, True, (None, None)),  # a weak tag says too little
        (None, None, True, (None, None)),
    ],
)  # fmt: skip
def test_what_a_rest_is_asked_by(
    site: Website, path: Path, etag: str | None, modified: str | None, ranges: bool,
    asked: tuple[str | None, str | None],
) -> None:  # fmt: skip
    site.etag, site.modified, site.ranges, site.dies_after = etag, modified, ranges, [4000]
    download(site.url, path, checksum=SHA256)
    assert path.read_bytes() == CONTENT
    assert site.asked == [(None, None), asked]


def test_a_part_that_is_too_long_is_thrown_away(site: Website, path: Path) -> None:
    site.dies_after = [4000] + [0] * TRIES
    with pytest.raises(DataError):
        download(site.url, path, checksum=SHA256)
    with path.with_name("data.zip.part").open("ab") as part:
        part.write(bytes(20_000))
    site.dies_after = []
    download(site.url, path, checksum=SHA256)
    assert path.read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(site: Website, path: Path) -> None:
    site.content = CONTENT[:-1] + b"?"
    with pytest.raises(DataError, match=f"its md5 is [0-9a-f]{{32}}, expected {MD5[4:]}"):
        download(site.url, path, checksum=MD5)
    assert left(path) == set()
    site.content = CONTENT
    download(site.url, path, checksum=MD5)
    assert site.asked[-1] == (None, None)


def test_an_unknown_checksum_is_recorded_and_compared(site: Website, path: Path) -> None:
    download(site.url, path)
    assert left(path) == {"data.zip", "data.zip.sha256"}
    path.unlink()
    download(site.url, path)
    path.unlink()
    site.content = b"another"
    with pytest.raises(DataError, match=rf"what was got first \(20.*{SHA256[7:]}. Delete .*sha256"):
        download(site.url, path)
    assert left(path) == {"data.zip.sha256"}
    path.with_name("data.zip.sha256").unlink()
    download(site.url, path)
    path.write_bytes(b"meddled with")
    with pytest.raises(DataError, match="what was got first"):
        download(site.url, path)


def test_redirects_are_followed_on_the_web(site: Website, path: Path) -> None:
    site.redirects["/data.zip"] = "/elsewhere.zip"
    site.dies_after = [4000]
    download(site.url, path, checksum=SHA256)
    assert path.read_bytes() == CONTENT
    assert site.asked[2:] == [("bytes=4000-", '"v1"')] * 2


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/data.zip"])
def test_redirects_do_not_leave_the_web(site: Website, path: Path, target: str) -> None:
    site.redirects["/data.zip"] = target
    with pytest.raises(DataError, match=r"is not (safe|allowed)"):
        download(site.url, path)


@pytest.mark.parametrize(
    ("old", "new", "safe"),
    [("https", "https", True), ("https", "http", False), ("http", "https", True)],
)
def test_redirects_do_not_leave_https(old: str, new: str, safe: bool) -> None:
    def follow() -> Request | None:
        request = Request(f"{old}://a.example/x")
        return module._Redirects().redirect_request(
            request, None, 302, "Found", {}, f"{new}://b.example/y"
        )

    if safe:
        assert follow() is not None
    else:
        with pytest.raises(DataError, match=r"redirected to http://b.example/y"):
            follow()


def test_a_refusal_is_final_and_a_busy_server_is_not(site: Website, path: Path) -> None:
    site.statuses = [404]
    with pytest.raises(DataError, match="the server says 404 Not Found"):
        download(site.url, path)
    assert len(site.asked) == 1
    site.statuses = [503, 429]
    download(site.url, path, checksum=SHA256)
    assert len(site.asked) == 4
    path.unlink()
    site.statuses = [503] * TRIES
    with pytest.raises(DataError, match="the server says 503 Service Unavailable"):
        download(site.url, path)


def test_no_server_and_too_large(
    site: Website, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIMIT", 5000)
    with pytest.raises(DataError, match="larger than 5000 bytes"):
        download(site.url, path)
    with pytest.raises(DataError, match="cannot be reached"):
        download("http://127.0.0.1:1/data.zip", path)


def test_one_process_at_a_time(site: Website, path: Path) -> None:
    path.parent.mkdir()
    with (
        FileLock(path.with_name("data.zip.lock")),
        pytest.raises(DataError, match="another process is downloading it"),
    ):
        download(site.url, path)
