"""What mkdocs calls while it builds: puts the documents of the root folder into pages."""

import re
from html import unescape
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace a line `--8<-- "NAME"` by that document, its links made to fit."""
    return re.sub(r'^--8<-- "(.+)"$', lambda found: _document(found[1]), markdown, flags=re.M)


def _document(name: str) -> str:
    text = (_ROOT / name).read_text(encoding="utf-8")
    return re.sub(r"!?\[([^\]]*)\]\(([^)\s]+)\)", _link, text)


def _link(found: re.Match[str]) -> str:
    """Point a link at its page; one to a file that has none keeps its text alone."""
    text, target = found.groups()
    if re.match(r"[a-z]+:|#", target):
        return found[0]
    if target.startswith("docs/"):
        return found[0].replace("](docs/", "](")
    return f"[{text}]({_PAGES[target]})" if target in _PAGES else text


def on_page_content(html: str, **_: Any) -> str:
    """Replace formulas by MathML, which browsers show without a script."""
    from latex2mathml.converter import convert

    def mathml(found: re.Match[str]) -> str:
        return convert(unescape(found[2]), display="block" if found[1] == "[" else "inline")

    pattern = r'<(?:span|div) class="arithmatex">\\([\[(])(.+?)\\[\])]</(?:span|div)>'
    return re.sub(pattern, mathml, html, flags=re.S)
