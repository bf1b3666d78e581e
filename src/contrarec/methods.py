"""Every method under a name, whatever its kind: what it needs, and which backbones it goes with."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from contrarec.backbones import BACKBONES
from contrarec.baselines import BASELINES
from contrarec.config import NO_BACKBONE
from contrarec.errors import ConfigError, unknown
from contrarec.losses import LOSSES
from contrarec.settings import fitting_backbones

ALL = "all"
"""Stands for every method."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A row of the table of methods."""

    name: str
    kind: str
    """`loss` of scores, `graph` contrast of views, `debiasing`, or a `baseline`."""
    summary: str
    source: str
    """The paper; empty where the name is a control of our own."""
    needs: str
    """What it takes beside the scores of sampled pairs."""
    backbones: tuple[str, ...]
    """The backbones it goes with, the usual one first; `none` for a baseline."""


def method_table() -> dict[str, Method]:
    """Return every method by name, in the order of their tables."""
    return {
        name: Method(
            name=name,
            kind=spec.kind,
            summary=spec.summary,
            source=spec.source,
            needs=spec.needs,
            backbones=spec.backbones or tuple(BACKBONES),
        )
        for name, spec in LOSSES.items()
    } | {
        name: Method(
            name=name,
            kind="baseline",
            summary=spec.summary,
            source=spec.source,
            needs=spec.needs,
            backbones=spec.backbones,
        )
        for name, spec in BASELINES.items()
    }


def choose_methods(methods: Sequence[str], backbones: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return what is to be run: each method, with those of the backbones that it goes with.

    Args:
        methods: names, `module:Class`, patterns such as `infonce*`, or `all`. A pattern never adds
            what is named, so that in `advinfonce,all` the first is the first. A method that a
            pattern stands for and that goes with none of the backbones is left out, with a warning.
            A baseline goes with `none`, whatever the backbones.
        backbones: names in `contrarec.backbones.BACKBONES`.

    Raises:
        ConfigError: a name is unknown or given twice, a pattern matches nothing, or a named method
            goes with none of the backbones.

    >>> list(choose_methods(["bpr", "infonce-*"], ["mf"]))[:2]
    ['bpr', 'infonce-kneg']
    """
    for kind, names in {"methods": methods, "backbones": backbones}.items():
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"`{kind}` must be different and at least one, got {list(names)}.")
    for name in backbones:
        if name not in BACKBONES:
            raise ConfigError(unknown("backbone", name, BACKBONES))
    chosen, left_out = dict[str, tuple[str, ...]](), dict[str, str]()
    for text in methods:
        for name in _matches(text, methods):
            known = fitting_backbones(name) or tuple(BACKBONES)
            fitting = tuple(b for b in (*backbones, NO_BACKBONE) if b in known)
            if fitting:
                chosen[name] = fitting
            elif text == name:
                raise ConfigError(
                    f"method {name!r} goes with the backbone {' or '.join(known)}, got "
                    f"{', '.join(backbones)}; see 'contrarec methods'."
                )
            else:
                left_out[name] = " or ".join(known)
    if left_out and chosen:
        names = ", ".join(f"{name} (needs {known})" for name, known in left_out.items())
        warnings.warn(
            f"left out, since they do not go with {' or '.join(backbones)}: {names}",
            UserWarning,
            stacklevel=2,
        )
    if not chosen:
        raise ConfigError(f"`methods`: none of {list(methods)} goes with {' or '.join(backbones)}.")
    return chosen


def _matches(text: str, named: Sequence[str]) -> list[str]:
    """Return the names that one of the given texts stands for; those of a pattern as in the table.

    What is named elsewhere among the texts is none of them.
    """
    pattern = "*" if text == ALL else text
    if not set(pattern) & set("*?["):
        return [text]
    table: Mapping[str, Method] = method_table()
    found = [name for name in table if fnmatchcase(name, pattern)]
    if not found:
        raise ConfigError(f"`methods`: no name matches {text!r}; choices: {', '.join(table)}")
    return [name for name in found if name not in named]
