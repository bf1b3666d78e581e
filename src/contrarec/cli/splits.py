"""Splits in words: `random:0.1`, `popularity:200,fraction=0.05`."""

from typing import TYPE_CHECKING, Any

from contrarec.config import build, parse_override
from contrarec.errors import ConfigError, unknown

if TYPE_CHECKING:
    from contrarec.data.splits import Split


def parse_split(text: str, where: str) -> "Split":
    """Make a split of `KIND:VALUE,KEY=VALUE,…`; the value without a key is the kind's main setting.

    Args:
        text: such as `random:0.1`.
        where: starts every error message, such as the option it was given with.

    Raises:
        ConfigError: the kind or a key is unknown, or a value is refused.

    >>> parse_split("popularity:200,fraction=0.05", "--valid").gamma
    200.0
    """
    from contrarec.data.splits import LeaveLastN, PopularityShift, Random, Temporal

    kinds: dict[str, tuple[type[Any], str]] = {
        "random": (Random, "fraction"),
        "last": (LeaveLastN, "n"),
        "temporal": (Temporal, "fraction"),
        "popularity": (PopularityShift, "gamma"),
    }
    kind, _, settings = text.partition(":")
    if kind not in kinds:
        raise ConfigError(f"{where}: {unknown('split', kind, kinds)}")
    split, main = kinds[kind]
    values: dict[str, Any] = {}
    for number, part in enumerate(filter(None, settings.split(","))):
        named = part if "=" in part or number else f"{main}={part}"
        key, value = parse_override(named)
        values[key] = value
    made: Split = build(split, values, where=f"{where} {text}")
    return made
