"""Adjacency lists: a line per user, `user item item …`, integers between blanks."""

from pathlib import Path

import numpy as np
import polars as pl

from contrarec.errors import DataError

_LONGEST = 18  # digits that always fit into 64 bits
_BLANK = np.zeros(256, dtype=bool)
_BLANK[list(b" \t\n\r")] = True


def read_adjacency(path: Path) -> pl.DataFrame:
    """Read an adjacency list; a user with no items after it adds nothing.

    The bytes are parsed as arrays. Only when something in them is wrong are they looked at line
    by line, to say where.

    Returns:
        A frame of `user` and `item`, both Int64, in the order of the file.

    Raises:
        DataError: a token is not a non-negative integer; the message has the line number.
    """
    data = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    symbols = np.frombuffer(data, dtype=np.uint8)
    digit = (symbols >= ord("0")) & (symbols <= ord("9"))
    edges = np.flatnonzero(np.diff(digit, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    returns = np.flatnonzero(symbols == ord("\r"))
    if (
        not (digit | _BLANK[symbols]).all()
        or (ends - starts > _LONGEST).any()
        or (np.append(symbols, ord("\n"))[returns + 1] != ord("\n")).any()
    ):
        raise DataError(f"{path}:{_complaint(data)}")
    numbers = np.fromstring(data, dtype=np.int64, sep=" ") if len(starts) else starts
    line = np.searchsorted(np.flatnonzero(symbols == ord("\n")), starts)
    first = np.diff(line, prepend=-1) > 0
    users = numbers[first][np.cumsum(first) - 1]
    return pl.DataFrame({"user": users[~first], "item": numbers[~first]})


def _complaint(data: bytes) -> str:
    number = 0
    for number, line in enumerate(data.split(b"\n"), start=1):
        text = line.removesuffix(b"\r").replace(b"\t", b" ")
        if b"\r" in text:
            return f"{number}: a carriage return within the line; lines must end in a line feed."
        tokens = filter(None, text.split(b" "))
        wrong = next((t for t in tokens if not t.isdigit() or len(t) > _LONGEST), None)
        if wrong is not None:
            return (
                f"{number}: expected non-negative integers of at most {_LONGEST} digits separated "
                f"by blanks, got {wrong[:40].decode(errors='replace')!r}."
            )
    return f"{number}: not an adjacency list."
