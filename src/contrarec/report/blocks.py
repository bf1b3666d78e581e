"""What a report is made of; `page` writes it as HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Text:
    """Paragraphs of plain text."""

    paragraphs: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows that a reader can sort by any column, and take along as CSV."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    """Texts and numbers; None and NaN are shown as a dash."""
    note: str = ""
    """How to read it."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """An interactive figure that a reader can take along as SVG, and its data as CSV."""

    title: str
    spec: Mapping[str, Any]
    """Vega-Lite: mark or layers, and encoding. Data, size, fonts and colours come from the page."""
    rows: Sequence[Mapping[str, Any]]
    """The data, a mapping of plain values per row."""
    note: str = ""
    """What to see in it, and what was measured on whom."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Text | Table | Chart]


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole report."""

    title: str
    summary: Sequence[str]
    """What a reader in a hurry should know, a sentence or two each."""
    sections: Sequence[Section]
    commands: Sequence[str]
    """What to type to get it again."""
    versions: Mapping[str, str]
