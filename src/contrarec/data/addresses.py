"""Addresses of databases: which driver they need, and how they are shown without a password."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from contrarec.errors import DataError

_RULE = "a database's address must be postgresql://user@host:port/database or sqlite:///file"


@dataclass(frozen=True)
class Address:
    """Where a database is."""

    driver: str
    """Module with the driver's Python interface."""
    target: str = field(repr=False)
    """What the driver takes; a password is in it."""
    shown: str
    """For messages and records; no password is in it."""
    name: str
    """The database's own name."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """What must not be shown, longest first."""

    def hide(self, message: str) -> str:
        """Take what is secret out of a driver's message, and the line breaks."""
        for secret in self.secrets:
            message = message.replace(secret, "***")
        return " ".join(message.split())


def parse_address(uri: str) -> Address:
    """Read `postgresql://user:password@host:port/database?…` or `sqlite:///file`.

    Raises:
        DataError: it is neither, a file is not there, or a password is written so that a driver
            would take a part of it for something else, and show it.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme not in ("postgresql", "postgres", "sqlite"):
        raise DataError(f"{_RULE}.")
    return _file(uri, rest) if scheme == "sqlite" else _server(uri, rest)


def _file(uri: str, rest: str) -> Address:
    if not rest.startswith("/"):
        raise DataError(f"{_RULE} (three slashes, or four for a path from the root), got {uri!r}.")
    path = Path(rest[1:])
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    # to be read only: SQLite would make a file that is not there
    target = f"file:{quote(str(path.absolute()))}?mode=ro"
    return Address("adbc_driver_sqlite.dbapi", target, uri, path.stem)


def _server(uri: str, rest: str) -> Address:
    authority = rest[: min(rest.find(mark) % (len(rest) + 1) for mark in "/?#")]
    login, _, host = authority.rpartition("@")
    if "@" in login or "@" in rest[len(authority) :]:
        raise DataError(
            "a user or password in a database's address must have `@`, `/`, `?` and `#` written "
            "as %40, %2F, %3F and %23."
        )
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise DataError(f"{_RULE} ({error}).") from None
    user, _, password = login.partition(":")
    options = parse_qsl(parts.query, keep_blank_values=True)
    public = [(key, value) for key, value in options if "password" not in key]
    secret = {password, unquote(password)}
    secret |= {value for key, value in options if "password" in key}
    shown = f"{parts.scheme}://{user}{'@' if user else ''}{host}{parts.path}"
    shown += f"?{urlencode(public)}" if public else ""
    return Address(
        "adbc_driver_postgresql.dbapi",
        uri,
        shown,
        unquote(parts.path.strip("/")) or "database",
        tuple(sorted(filter(None, secret), key=len, reverse=True)),
    )
