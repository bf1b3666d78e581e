"""What stands before every request: key, size of the body, headers of the answer."""

import hmac
import json
from collections.abc import Iterable

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

KEY_HEADER = "x-api-key"
OPEN = frozenset({"/", "/health", "/ready", "/docs", "/openapi.json"})
"""Paths that hold no data and need no key, like the page's own files."""

_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
]

Headers = Iterable[tuple[bytes, bytes]]


class Guard:
    """ASGI middleware that refuses what must not pass.

    Args:
        app: what answers the rest.
        key: what a request has to bring, as `X-API-Key` or as a bearer token; None for no key.
        max_body: bytes of a body.
    """

    def __init__(self, app: ASGIApp, *, key: str | None, max_body: int) -> None:
        self._app, self._max_body = app, max_body
        self._key = key.encode() if key is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with what is wrong."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        if not self._may_pass(scope):
            await _refuse(answer, 401, "a valid API key is needed, as X-API-Key or bearer token.")
        elif _length(scope["headers"]) > self._max_body:
            await _refuse(answer, 413, self._too_large())
        else:
            await self._app(scope, self._counted(receive), answer)

    def _may_pass(self, scope: Scope) -> bool:
        if self._key is None or is_open(scope["path"]):
            return True
        return hmac.compare_digest(_given_key(scope["headers"]), self._key)

    def _counted(self, receive: Receive) -> Receive:
        """Count what arrives: a body sent in chunks does not say beforehand how long it is."""
        arrived = 0

        async def counted() -> Message:
            nonlocal arrived
            message = await receive()
            arrived += len(message.get("body", b""))
            if arrived > self._max_body:
                raise HTTPException(413, self._too_large())
            return message

        return counted

    def _too_large(self) -> str:
        return f"the body must have at most {self._max_body} bytes."


def is_open(path: str) -> bool:
    """Whether a path needs no key."""
    return path in OPEN or path.startswith("/static/")


def _given_key(headers: Headers) -> bytes:
    for name, value in headers:
        if name == KEY_HEADER.encode():
            return value
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return value[7:].strip()
    return b""


def _length(headers: Headers) -> int:
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


async def _refuse(send: Send, status: int, error: str) -> None:
    headers = [(b"content-type", b"application/json")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    else:  # what is left of the body is not read
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps({"error": error}).encode()})
