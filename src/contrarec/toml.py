"""Reading and writing TOML (the standard library only reads it)."""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contrarec.errors import ConfigError


def dumps_toml(values: Mapping[str, Any]) -> str:
    """Write nested tables of plain values as TOML; None is left out, floats survive exactly.

    A list of mappings becomes an array of tables, `[[key]]`.

    >>> print(dumps_toml({"seed": 0, "loss": {"name": "infonce", "tau": 0.1}}), end="")
    seed = 0
    <BLANKLINE>
    [loss]
    name = "infonce"
    tau = 0.1

    Raises:
        ConfigError: a value is none of str, bool, int, float, None, a list of these or a mapping.
    """
    return "\n".join(_tables(values, ()))


def _tables(
    values: Mapping[str, Any], path: tuple[str, ...], *, in_array: bool = False
) -> list[str]:
    nested = {key: value for key, value in values.items() if _is_nested(value)}
    lines = [
        f"{_key(key)} = {_toml(value, key)}\n"
        for key, value in values.items()
        if key not in nested and value is not None
    ]
    name = ".".join(map(_key, path))
    header = f"[[{name}]]\n" if in_array else f"[{name}]\n"
    if not path or not (in_array or lines or not nested):
        header = ""
    blocks = [header + "".join(lines)] if header or lines else []
    for key, value in nested.items():
        parts = [value] if isinstance(value, Mapping) else value
        for part in parts:
            blocks += _tables(part, (*path, key), in_array=isinstance(value, list))
    return blocks


def _is_nested(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(part, Mapping) for part in value)
    return isinstance(value, Mapping)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key, key)


def _toml(value: Any, name: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which JSON leaves as it is
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)  # a NumPy float's own repr is not a number
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(part, name) for part in value)}]"
    raise ConfigError(f"`{name}`: a TOML file cannot hold {value!r}.")


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: it cannot be read or is not TOML; one line with path, line and reason.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}.") from error
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text.") from error
    return loads_toml(text, where=str(path))


def loads_toml(text: str, *, where: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        ConfigError: it is not TOML; one line with `where`, line number and reason.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, _, place = str(error).rpartition(" (at ")
        number = re.search(r"line (\d+)", place)  # otherwise it is at the end of the document
        line = int(number[1]) if number else max(1, len(text.splitlines()))
        raise ConfigError(f"{where}:{line}: {message or error}.") from error
