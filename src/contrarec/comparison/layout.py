"""Figures and tables as text that reads well, in Markdown and plain."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contrarec.comparison.table import Contrast


def markdown_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Lay out rows with the same columns, aligned for reading as plain text, too.

    >>> print(markdown_table([{"loss": "bpr", "recall": ".1"}]))
    | loss | recall |
    | ---- | ------ |
    | bpr  | .1     |
    """
    header = list(rows[0])
    widths = [max(3, len(name), *(len(row[name]) for row in rows)) for name in header]
    lines = [header, ["-" * width for width in widths], *(list(row.values()) for row in rows)]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def format_mean(mean: float, deviation: float | None) -> str:
    """Format a mean and its standard deviation.

    >>> format_mean(0.27412, 0.00208), format_mean(0.27412, None)
    ('.2741 ± .0021', '.2741')
    """
    text = decimal(mean)
    return text if deviation is None else f"{text} ± {decimal(deviation)}"


def format_contrast(contrast: "Contrast") -> str:
    """Format a difference with its interval and corrected p-value."""
    p = "p < .001" if contrast.p_holm < 0.001 else f"p {decimal(contrast.p_holm, digits=3)}"
    return f"{format_difference(contrast.difference, contrast.low, contrast.high)} {p}"


def format_difference(difference: float, low: float, high: float) -> str:
    """Format a difference with its interval.

    >>> format_difference(0.0102, -0.001, 0.02)
    '+.0102 [−.0010, +.0200]'
    """
    return f"{decimal(difference, '+')} [{decimal(low, '+')}, {decimal(high, '+')}]"


def decimal(value: float, sign: str = "", digits: int = 4) -> str:
    """Format a number without the zero before the point, and with a true minus."""
    text = f"{value:{sign}.{digits}f}".replace("-", "−")
    return text.replace("0.", ".", 1) if text.lstrip("+−").startswith("0.") else text
