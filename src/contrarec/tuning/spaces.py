"""Search spaces: which settings of a method are tuned, and between which values."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from contrarec.config import build, field_names, read_toml, require, settle
from contrarec.settings import is_idle, resolve_method

_FILE = Path(__file__).with_name("spaces.toml")


@dataclass(frozen=True, kw_only=True)
class Range:
    """The values of a setting between two ends, both included."""

    low: int | float
    high: int | float
    log: bool = False
    """Whether the logarithm is uniform."""

    def __post_init__(self) -> None:
        settle(self)
        require(self.low < self.high, "high", f"be above `low` = {self.low}", self.high)
        require(not self.log or self.low > 0, "low", "be positive on a log scale", self.low)

    def suggest(self, trial: Any, name: str) -> int | float:
        """Let an Optuna trial choose a value."""
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        suggest = trial.suggest_int if whole else trial.suggest_float
        value: int | float = suggest(name, self.low, self.high, log=self.log)
        return value

    def __contains__(self, value: Any) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of several values."""

    values: tuple[int | float | bool | str, ...]

    def suggest(self, trial: Any, name: str) -> Any:
        """Let an Optuna trial choose a value."""
        return trial.suggest_categorical(name, self.values)

    def __contains__(self, value: Any) -> bool:
        return value in self.values


Space = dict[str, Range | Choice]
"""`training.lr`, `loss.tau`, … → what it may be."""


def search_space(loss: str) -> Space:
    """Return what is tuned for a method; nothing, for a baseline without settings.

    Raises:
        ConfigError: no method has that name.

    >>> search_space("infonce")["loss.tau"]
    Range(low=0.03, high=2.0, log=True)
    """
    tables = read_toml(_FILE)
    shared: dict[str, dict[str, Any]] = {key: tables[key] for key in ("training", "loss")}
    known = field_names(resolve_method(loss).config)
    shared["loss"] = {key: value for key, value in shared["loss"].items() if key in known}
    shared["training"] = {
        key: value
        for key, value in shared["training"].items()
        if not is_idle(loss, "training", key)
    }
    space: Space = {}
    for row in (shared, *tables["row"]):
        if fnmatchcase(loss, row.get("for_loss", "*")):
            for section in ("training", "loss"):
                for key, value in row.get(section, {}).items():
                    space[f"{section}.{key}"] = _read(value, f"{_FILE.name}: {section}.{key}")
    return space


def _read(value: Mapping[str, Any] | list[Any], where: str) -> Range | Choice:
    if isinstance(value, list):
        return Choice(values=tuple(value))
    return build(Range, value, where=where)
