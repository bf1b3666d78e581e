"""One self-contained HTML file: charts, tables, and how to get it all again.

Whatever comes from data (ids, names, titles) is escaped, and the page's own policy lets a browser
run nothing but the scripts written here, and ask no network for anything.
"""

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from contrarec.errors import BackendError
from contrarec.files import write_text
from contrarec.report.blocks import Chart, Page, Section, Table, Text

_DASH = "–"
_PLACES = 4
"""Digits that a column of numbers shows of its largest one."""


def write_page(page: Page, path: Path) -> None:
    """Write a page as one HTML file, replacing what is there.

    Raises:
        BackendError: the charts' JavaScript is not installed.
    """
    write_text(path, render(page))


def render(page: Page) -> str:
    """Return the HTML of a page.

    Raises:
        BackendError: the charts' JavaScript is not installed.
    """
    css, scripts = _asset("page.css"), [_charts_code(), _in_script(_asset("page.js"))]
    titles = ["In short", *(section.title for section in page.sections), "How to get it again"]
    names = ["summary", *(f"section-{n}" for n in range(1, len(page.sections) + 1)), "again"]
    bodies = [_items(page.summary), *map(_section, page.sections), _again(page)]
    return Template(_asset("page.html")).substitute(
        policy=_policy(css, scripts),
        title=html.escape(page.title),
        css=css,
        contents="\n".join(
            f'<li><a href="#{name}">{html.escape(title)}</a></li>'
            for name, title in zip(names, titles, strict=True)
        ),
        main="\n".join(
            f'<section id="{name}" aria-labelledby="{name}-title">\n'
            f'<h2 id="{name}-title">{html.escape(title)}</h2>\n{body}\n</section>'
            for name, title, body in zip(names, titles, bodies, strict=True)
        ),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def _section(section: Section) -> str:
    return "\n".join(map(_block, section.blocks))


def _block(block: Text | Table | Chart) -> str:
    if isinstance(block, Text):
        return _paragraphs(block.paragraphs)
    return _table(block) if isinstance(block, Table) else _chart(block)


def _chart(chart: Chart) -> str:
    payload = {
        "title": chart.title,
        "note": chart.note,
        "spec": chart.spec,
        "rows": chart.rows,
    }
    return (
        '<figure class="block">\n'
        f'<div class="head"><figcaption>{html.escape(chart.title)}</figcaption>'
        f'<div class="tools">{_button("svg", chart.title)}{_button("csv", chart.title)}</div>'
        f"</div>\n{_note(chart.note)}"
        '<div class="plot"></div>\n'
        '<details class="data"><summary>The data as a table</summary></details>\n'
        f'<script type="application/json">{_json(payload)}</script>\n</figure>'
    )


def _table(table: Table) -> str:
    formats = [_Column([row[n] for row in table.rows]) for n in range(len(table.columns))]
    head = "".join(
        f'<th scope="col"{column.css}><button type="button">{html.escape(str(name))}</button></th>'
        for name, column in zip(table.columns, formats, strict=True)
    )
    body = "\n".join(
        f"<tr>{''.join(c.cell(value) for c, value in zip(formats, row, strict=True))}</tr>"
        for row in table.rows
    )
    title = html.escape(table.title)
    return (
        '<section class="block">\n'
        f'<div class="head"><h3>{title}</h3>'
        f'<div class="tools">{_button("csv", table.title)}</div></div>\n{_note(table.note)}'
        f'<div class="box" role="region" aria-label="{title}" tabindex="0">\n'
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n"
        "</div>\n</section>"
    )


class _Column:
    """How the cells of a column are written: numbers to the right, with the same digits."""

    def __init__(self, values: Sequence[Any]) -> None:
        known = [value for value in map(_plain, values) if value is not None]
        self._numeric = bool(known) and all(map(_is_number, known))
        self.css = ' class="number"' if self._numeric else ""
        largest = max((abs(value) for value in known), default=0) if self._numeric else 0
        whole = len(str(int(largest))) if largest >= 1 else 0
        self._digits = max(0, _PLACES - whole)

    def cell(self, value: Any) -> str:
        """Return the HTML of one cell; the exact value is kept beside the rounded one."""
        value = _plain(value)
        if value is None:
            return f'<td{self.css} data-value="">{_DASH}</td>'
        if isinstance(value, bool):
            value = "yes" if value else "no"
        if not self._numeric:
            return f"<td>{html.escape(str(value))}</td>"
        return f'<td{self.css} data-value="{value!r}">{self._number(value)}</td>'

    def _number(self, value: float) -> str:
        if isinstance(value, int):
            text = f"{value:,}" if abs(value) >= 10_000 else str(value)
        else:
            text = f"{value:,.{self._digits}f}"
            if value and not float(text.replace(",", "")):
                text = f"{value:.1e}"  # small, but not nothing
        return text.replace("-", "−")


def _again(page: Page) -> str:
    commands = "".join(f"<pre><code>{html.escape(line)}</code></pre>\n" for line in page.commands)
    versions = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(version)}</dd>"
        for name, version in page.versions.items()
    )
    return f"{commands}<dl>{versions}</dl>"


def _items(sentences: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{html.escape(text)}</li>' for text in sentences)}</ul>"


def _paragraphs(paragraphs: Sequence[str]) -> str:
    return "\n".join(f"<p>{html.escape(text)}</p>" for text in paragraphs)


def _note(note: str) -> str:
    return f'<p class="note">{html.escape(note)}</p>\n' if note else ""


def _button(kind: str, title: str) -> str:
    name = f"{kind.upper()} of {title}"
    return (
        f'<button type="button" data-save="{kind}" aria-label="{html.escape(name)}">'
        f"{kind.upper()}</button>"
    )


def _policy(css: str, scripts: Sequence[str]) -> str:
    """Return a content security policy under which nothing but these texts runs or is fetched."""
    sources = " ".join(map(_hash, scripts))
    return (
        f"default-src 'none'; script-src {sources}; style-src {_hash(css)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _asset(name: str) -> str:
    return (files("contrarec.report") / "assets" / name).read_text(encoding="utf-8")


def load_vl_convert() -> Any:
    """Import what holds the charts' JavaScript.

    Raises:
        BackendError: it is not installed.
    """
    try:
        import vl_convert
    except ImportError as error:
        raise BackendError(
            "reports need the package vl-convert-python: pip install 'contrarec[report]' "
            f"({error})."
        ) from error
    return vl_convert


@cache
def _charts_code() -> str:
    """Return the JavaScript of Vega, Vega-Lite and Vega-Embed, in a scope of its own."""
    code = load_vl_convert().javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return _in_script(f"(()=>{{{code}}})();")


def _in_script(code: str) -> str:
    """Make sure that nothing in a script's text ends it."""
    return re.sub(r"<(?=/script|!--)", r"\\x3c", code)


def _json(value: Any) -> str:
    """Return JSON that may stand within a script element."""
    text = json.dumps(_plain(value), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(value: Any) -> Any:
    """Make a value ready for JSON; NaN and infinities become None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if hasattr(value, "item"):  # a NumPy scalar
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
