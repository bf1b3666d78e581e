"""Downloads that go on where they stopped, and files that are what they should be."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from http.client import HTTPException
from pathlib import Path
from ssl import SSLError
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from contrarec.errors import DataError
from contrarec.files import put_in_place, write_text

LIMIT = 4 << 30
"""Bytes of the largest file that is taken."""
TRIES = 5
"""Connections in a row that bring nothing new before it is given up."""
PAUSE = 1.0
"""Seconds before the second of them; twice as long before each further one."""
_TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 18

Progress = Callable[[int, int | None], None]
"""(bytes that are there, bytes in all if known)"""


class _BrokenError(Exception):
    """A connection ended too early; what came is kept."""


def download(
    url: str, path: Path, *, checksum: str | None = None, progress: Progress | None = None
) -> str:
    """Download a file, or go on with it; it appears complete and checked, or not at all.

    What has come is kept in `<path>.part`. Another try, in this call or a later one, asks for the
    rest of the same version of the file; if there is another by now, or the server knows no
    ranges, it starts again. Where no checksum is known the file's own is recorded in
    `<path>.sha256`, and what is downloaded later must be the same.

    Args:
        url: `http` or `https`; a redirect does not leave `https`.
        path: the file to write. If it is there already it is only checked.
        checksum: `sha256:…` or `md5:…`, or None.
        progress: called as bytes arrive.

    Returns:
        The file's SHA-256.

    Raises:
        DataError: the server cannot be reached or refuses, the file is not what it should be, or
            another process is downloading it.
    """
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f"{path.name}.lock"), timeout=0):
            if path.exists():
                return verify(path, checksum)
            part = path.with_name(f"{path.name}.part")
            _complete(url, part, progress or (lambda *_: None))
            try:
                digest = verify(part, checksum, record=path)
            except DataError:
                _forget(part)
                raise
            put_in_place(part, path)
            _forget(part)
            return digest
    except Timeout:
        raise DataError(f"{path}: another process is downloading it.") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}).") from None


def verify(file: Path, checksum: str | None, *, record: Path | None = None) -> str:
    """Compare a file with its checksum, or with the one recorded at the first time.

    Args:
        file: what is looked at.
        checksum: `sha256:…` or `md5:…`; None compares with `<record>.sha256`, and writes it if it
            is not there.
        record: what the file will be called; its present name if None.

    Returns:
        Its SHA-256.

    Raises:
        DataError: they differ.
    """
    kind, _, expected = (checksum or "sha256:").partition(":")
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in {kind, "sha256"}}
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            for digest in digests.values():
                digest.update(chunk)
    got, sha256 = digests[kind].hexdigest(), digests["sha256"].hexdigest()
    name = record or file
    if checksum is None:
        written = name.with_name(f"{name.name}.sha256")
        if not written.exists():
            write_text(written, f"{sha256}  {name.name}  {date.today().isoformat()}\n")
            return sha256
        expected, _, day = (*written.read_text(encoding="utf-8").split(), "", "", "")[:3]
        if got != expected:
            raise DataError(
                f"{name}: its sha256 is {got}; what was got first ({day}) had {expected}. Delete "
                f"{written} to accept the new one."
            )
    elif got != expected:
        raise DataError(
            f"{name}: its {kind} is {got}, expected {expected}; not what was asked for."
        )
    return sha256


def _complete(url: str, part: Path, progress: Progress) -> None:
    """Bring in what is missing, over as many connections as it takes."""
    failures, reason = 0, ""
    while failures < TRIES:
        if failures:
            time.sleep(PAUSE * 2 ** (failures - 1))
        before = _size(part)
        try:
            _receive(url, part, progress)
            return
        except _BrokenError as broken:
            reason = str(broken)
            failures = 1 if _size(part) > before else failures + 1
    kept = f"; {_size(part)} bytes are kept, and another try goes on there" if _size(part) else ""
    raise DataError(f"{url}: {reason}{kept}.")


def _receive(url: str, part: Path, progress: Progress) -> None:
    """Write what one connection brings.

    Raises:
        _BrokenError: it ended before the file did.
        DataError: the server refuses, or the file is too large.
    """
    about = part.with_name(f"{part.name}.json")
    known = _read_json(about)
    have = _size(part) if known.get("url") == url and known.get("version") else 0
    headers = {"User-Agent": "contrarec", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": known["version"]}
    with _answer(url, headers, part) as answer:
        going_on = have and answer.status == 206
        if going_on and not (answer.headers["Content-Range"] or "").startswith(f"bytes {have}-"):
            _forget(part)
            raise _BrokenError(f"the server sent {answer.headers['Content-Range']!r}")
        have = have if going_on else 0
        length = answer.headers["Content-Length"] or ""
        total = have + int(length) if length.isdigit() else None
        if not going_on:
            write_text(about, json.dumps({"url": url, "version": _version(answer.headers)}))
        with part.open("ab" if going_on else "wb") as file:
            while chunk := answer.read(_CHUNK):
                have += len(chunk)
                if have > LIMIT:
                    raise DataError(f"{url}: larger than {LIMIT} bytes.")
                file.write(chunk)
                progress(have, total)
        if total is not None and have < total:
            raise _BrokenError(f"the connection ended after {have} of {total} bytes")


@contextmanager
def _answer(url: str, headers: dict[str, str], part: Path) -> Iterator[Any]:
    """Yield the server's answer; whatever breaks the connection is a `_BrokenError`."""
    try:
        with build_opener(_Redirects).open(Request(url, headers=headers), timeout=_TIMEOUT) as got:
            yield got
    except HTTPError as error:
        if error.code == 416:  # there is no more of it: it has changed, or the part is spoilt
            _forget(part)
        if error.code in (408, 416, 429) or error.code >= 500:
            raise _BrokenError(f"the server says {error.code} {error.reason}") from None
        raise DataError(f"{url}: the server says {error.code} {error.reason}.") from None
    except URLError as error:
        raise _BrokenError(f"cannot be reached ({error.reason})") from None
    except (HTTPException, ConnectionError, TimeoutError, SSLError) as error:
        raise _BrokenError(f"the connection broke ({error or type(error).__name__})") from None


class _Redirects(HTTPRedirectHandler):
    """Follow redirects, but not out of `https`, nor to anything but the web."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        """Return the next request."""
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new != "https" and (old == "https" or new != "http"):
            raise DataError(f"{req.full_url}: redirected to {newurl}, which is not safe.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _version(headers: Any) -> str | None:
    """Return what tells one version of a file from another; a weak ETag does not."""
    tag = headers["ETag"]
    version: str | None = headers["Last-Modified"] if not tag or tag.startswith("W/") else tag
    return version


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_name(f"{part.name}.json").unlink(missing_ok=True)
