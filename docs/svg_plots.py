"""Small plots as SVG text: middle tones, no background, so that light and dark pages suit them."""

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape

TEXT, GRID = "#7b7b7b", "#7b7b7b55"
COLOURS = (
    "#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2",
    "#b07aa1", "#c9a227", "#ff9da7", "#9c755f", "#8a8a8a",
)  # fmt: skip
WIDTH, MARGIN = 860, 20
LINE = 44  # a label, and its bar below

Point = tuple[float, float]


def ratio_bars(title: str, rows: Sequence[tuple[str, float, float | None]]) -> str:
    """Draw a bar for each (label, ratio, target or None), on a logarithmic axis from 1 out.

    A bar that misses its target has another colour; the target is a stroke across it.
    """
    values = [1.0, *(v for _, v, _ in rows), *(t for _, _, t in rows if t is not None)]
    low, high = _decades(values)
    place = _log_axis(low, high, MARGIN, WIDTH - 80)
    bottom = 40 + LINE * len(rows)
    parts = [*_vertical_grid(low, high, place, 34, bottom, "×")]
    for n, (label, value, target) in enumerate(rows):
        y = 40 + LINE * n
        missed = target is not None and value < target
        x, one = place(value), place(1.0)
        parts += [
            _text(MARGIN, y + 14, label),
            _box(min(x, one), y + 20, abs(x - one), 14, COLOURS[missed]),
            _text(max(x, one) + 8, y + 31, f"{value:.3g}"),
        ]
        if target is not None:
            parts.append(_stroke(place(target), y + 18, place(target), y + 36, TEXT, 2))
    return _page(title, bottom + 30, parts)


def stacked_bars(title: str, rows: Sequence[tuple[str, dict[str, float]]]) -> str:
    """Draw a bar of length 1 for each (label, part → share), with a legend of the parts."""
    names = list(dict.fromkeys(name for _, parts in rows for name in parts))
    colour = dict(zip(names, COLOURS, strict=False))
    width = WIDTH - 2 * MARGIN
    drawn = []
    for n, (label, shares) in enumerate(rows):
        x, y = float(MARGIN), 40 + LINE * n
        drawn.append(_text(MARGIN, y + 14, label))
        for name, share in shares.items():
            drawn.append(_box(x, y + 20, share * width, 14, colour[name], name))
            x += share * width
    top = 52 + LINE * len(rows)
    for n, name in enumerate(names):
        x, y = MARGIN + 165 * (n % 5), top + 20 * (n // 5)
        drawn += [_box(x, y, 12, 12, colour[name]), _text(x + 18, y + 11, name)]
    return _page(title, top + 20 * math.ceil(len(names) / 5) + 10, drawn)


def curves(title: str, series: dict[str, Sequence[Point]], x_label: str, y_label: str) -> str:
    """Draw a line for each name → points; both axes are logarithmic. A name in brackets is dashed.

    Args:
        title: over the plot.
        series: points by name, all coordinates positive.
        x_label: below.
        y_label: beside the axis, at its top.
    """
    points = [point for line in series.values() for point in line]
    xs, ys = _decades([x for x, _ in points]), _decades([y for _, y in points])
    left, right, top, bottom = 90, WIDTH - 230, 60, 340
    across, up = _log_axis(*xs, left, right), _log_axis(*ys, bottom, top)
    parts = [*_vertical_grid(*xs, across, top, bottom, "")]
    for power in range(ys[0], ys[1] + 1):
        y = up(10.0**power)
        parts += [_stroke(left, y, right, y, GRID), _text(left - 8, y + 4, _ten(power), "end")]
    for n, (name, line) in enumerate(series.items()):
        placed = [(across(x), up(y)) for x, y in sorted(line)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        dashes = ' stroke-dasharray="5 4"' if name.startswith("(") else ""
        colour = COLOURS[n % len(COLOURS)]
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'
        )
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed]
        y = top + 10 + 20 * n
        parts += [_box(right + 16, y - 9, 12, 12, colour), _text(right + 34, y + 2, name)]
    parts += [
        _text((left + right) / 2, bottom + 40, x_label, "middle"),
        _text(left, top - 10, y_label),
    ]
    return _page(title, bottom + 56, parts)


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """Return the powers of ten around all values, at least one decade apart."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _log_axis(low: int, high: int, start: float, end: float) -> Callable[[float], float]:
    """Return where a value lies on a logarithmic axis from `10^low` to `10^high`."""

    def place(value: float) -> float:
        return start + (math.log10(value) - low) / (high - low) * (end - start)

    return place


def _vertical_grid(
    low: int, high: int, place: Callable[[float], float], top: float, bottom: float, unit: str
) -> Iterator[str]:
    for power in range(low, high + 1):
        x = place(10.0**power)
        yield _stroke(x, top, x, bottom, GRID)
        yield _text(x, bottom + 18, f"{_ten(power)} {unit}".strip(), "middle")


def _ten(power: int) -> str:
    return f"{10.0**power:g}" if abs(power) <= 4 else f"1e{power}"


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{TEXT}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _box(x: float, y: float, width: float, height: float, colour: str, title: str = "") -> str:
    size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {size} fill="{colour}"><title>{escape(title)}</title></rect>'


def _stroke(x: float, y: float, x2: float, y2: float, colour: str, width: int = 1) -> str:
    ends = f'x1="{x:.1f}" y1="{y:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"/>'


def _page(title: str, height: float, parts: Sequence[str]) -> str:
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
        'font-family="sans-serif" font-size="12" role="img">',
        f'<text x="{MARGIN}" y="22" fill="{TEXT}" font-size="14" font-weight="bold">'
        f"{escape(title)}</text>",
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"
