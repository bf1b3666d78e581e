"""Pieces of Vega-Lite that several reports share."""

from collections.abc import Mapping, Sequence
from typing import Any

Spec = dict[str, Any]


def number(field: str, title: str | None = None, *, zero: bool = False, **more: Any) -> Spec:
    """Return a channel for a number; the axis starts at 0 only where that is asked for."""
    return {"field": field, "type": "quantitative", "title": title, "scale": {"zero": zero}} | more


def name(field: str, title: str | None = None, **more: Any) -> Spec:
    """Return a channel for names, in the order of the rows."""
    return {"field": field, "type": "nominal", "title": title, "sort": None} | more


def choice(field: str, options: Sequence[str], first: str, title: str) -> Spec:
    """Return what lets a reader choose the rows of a chart; nothing if there is no choice.

    Args:
        field: of the rows.
        options: its values.
        first: what is chosen in the beginning.
        title: stands before the choice.
    """
    if len(options) < 2:
        return {}
    parameter = f"chosen_{field}"
    bind = {"input": "select", "options": list(options), "name": f"{title} "}
    return {
        "params": [{"name": parameter, "value": first, "bind": bind}],
        "transform": [{"filter": f"datum[{field!r}] === {parameter}"}],
    }


def choices(*several: Spec) -> Spec:
    """Put several choices together."""
    return {
        key: [part for spec in several for part in spec.get(key, [])]
        for key in ("params", "transform")
    }


def with_interval(x: Spec, y: Spec, colour: Spec | None = None, **more: Any) -> Spec:
    """Return points with the interval `low` to `high` of each row, beside `x`."""
    shared: Spec = {"y": y} | ({"color": colour} if colour else {}) | more
    ends = {"x": {**x, "field": "low"}, "x2": {"field": "high"}}
    return {
        "encoding": shared,
        "layer": [
            {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": ends},
            {"mark": {"type": "point", "filled": True}, "encoding": {"x": x}},
        ],
    }


def tooltip(**titles: str) -> list[Mapping[str, Any]]:
    """Return what a tooltip says: a field and its title each."""
    return [{"field": field, "title": title} for field, title in titles.items()]
