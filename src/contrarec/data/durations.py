"""Lengths of time in the units of a log's times."""

import re

import polars as pl

from contrarec.errors import ConfigError, DataError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TEXT = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_TICKS = ((1e8, 1), (1e11, 10**3), (1e14, 10**6), (1e17, 10**9))
"""Times from here on (1973 in each) are in so many ticks a second, since 1970."""


def require_duration(value: float | str, name: str) -> None:
    """Raise unless a value is a positive number or a text like `30m`.

    Raises:
        ConfigError: it is neither.
    """
    text = isinstance(value, str) and _TEXT.fullmatch(value)
    number = _seconds(value) if text else value
    if not (isinstance(number, int | float) and 0 < number < float("inf")):
        raise ConfigError(
            f"`{name}` must be a positive number in the units of the log's times, or a text such "
            f"as 90s, 30m, 12h or 7d, got {value!r}."
        )


def in_units_of(times: pl.Series, value: float | str) -> float:
    """Return a duration in the units of a log's times.

    A number is in these units already. For a text the units are told by the size of the times:
    seconds, milli-, micro- or nanoseconds since 1970 (dates become microseconds when read).

    Args:
        times: of the log.
        value: what `require_duration` takes.

    Raises:
        DataError: a text, and the times are too small to be since 1970.

    >>> in_units_of(pl.Series([1_700_000_000_000]), "2m")
    120000.0
    """
    if not isinstance(value, str):
        return float(value)
    largest = float(times.max() or 0)  # type: ignore[arg-type]
    ticks = [per_second for start, per_second in _TICKS if largest >= start]
    if not ticks:
        raise DataError(
            f"{value!r} needs times since 1970 and the log's go up to {largest:g}; give a number "
            "in their units."
        )
    return _seconds(value) * ticks[-1]


def _seconds(text: str | float) -> float:
    match = _TEXT.fullmatch(str(text))
    return float(match[1]) * _UNITS[match[2]] if match else 0.0
