"""A website on loopback that can be told to misbehave."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Website:
    """What is served, how, and what was asked for."""

    def __init__(self) -> None:
        self.url = ""
        self.content = b""
        self.etag: str | None = '"v1"'
        self.modified: str | None = None
        self.ranges = True
        """Whether it knows ranges."""
        self.dies_after: list[int] = []
        """Bytes of its answer after which each of the next connections is cut."""
        self.statuses: list[int] = []
        """What the next answers are instead of the file."""
        self.redirects: dict[str, str] = {}
        self.asked: list[tuple[str | None, str | None]] = []
        """Range and If-Range of each request."""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer a request for the file."""
        wanted, version = request.headers["Range"], request.headers["If-Range"]
        self.asked.append((wanted, version))
        if target := self.redirects.get(request.path):
            request.send_response(302)
            request.send_header("Location", target)
            request.end_headers()
            return
        if self.statuses:
            request.send_error(self.statuses.pop(0))
            return
        first = 0
        if wanted and self.ranges and version in (None, self.etag, self.modified):
            first = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])  # type: ignore[index]
            if first >= len(self.content):
                request.send_error(416)
                return
            request.send_response(206)
            last = len(self.content) - 1
            request.send_header("Content-Range", f"bytes {first}-{last}/{last + 1}")
        else:
            request.send_response(200)
        body = self.content[first:]
        request.send_header("Content-Length", str(len(body)))
        for name, value in (("ETag", self.etag), ("Last-Modified", self.modified)):
            if value:
                request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body[: self.dies_after.pop(0)] if self.dies_after else body)


@contextmanager
def website() -> Iterator[Website]:
    """Serve on a free port until the block ends."""
    site = Website()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.answer(self)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        site.url = f"http://127.0.0.1:{server.server_port}/data.zip"
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()
