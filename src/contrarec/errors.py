"""The package's own errors: a wrong input, a wrong setting, a back end that cannot be had."""

import difflib
from collections.abc import Iterable


class ContrarecError(ValueError):
    """Base of the package's errors; the command line prints one as a line and exits with 2."""


class DataError(ContrarecError):
    """Something is wrong with the data: the message says where and what."""


class ConfigError(ContrarecError):
    """A setting is unknown or out of range: the message names it, the rule and the value."""


class BackendError(ContrarecError):
    """A kernel back end, a device or an optional package was asked for and is not there."""


def unknown(kind: str, name: str, choices: Iterable[str]) -> str:
    """Message for a name that is not among the choices, with the nearest match.

    >>> unknown("loss", "infonse", ["bpr", "infonce"])
    "unknown loss 'infonse' (did you mean 'infonce'?); choices: bpr, infonce"
    """
    known = sorted(choices)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"unknown {kind} {name!r}{hint}; choices: {', '.join(known)}"


def error_of(kind: str, message: str) -> ContrarecError:
    """Make an error again of the name of its class and its message, as another process sent them.

    >>> error_of("DataError", "no such file.")
    DataError('no such file.')
    """
    kinds = {known.__name__: known for known in (DataError, ConfigError, BackendError)}
    return kinds.get(kind, ContrarecError)(message)
