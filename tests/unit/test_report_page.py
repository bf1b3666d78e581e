"""The HTML of a report: what is escaped, what numbers look like, what the policy allows."""

import base64
import hashlib
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contrarec.errors import BackendError
from contrarec.report.blocks import Chart, Page, Section, Table, Text
from contrarec.report.page import render, write_page

EVIL = "</script></script ><img src=x onerror=alert(1)>\"'&<!--"
KNOWN = {"html", "head", "meta", "link", "title", "style", "body", "a", "header", "h1", "button",
         "nav", "details", "summary", "ol", "li", "main", "section", "h2", "h3", "ul", "p", "div",
         "figure", "figcaption", "script", "table", "thead", "tbody", "tr", "th", "td", "pre",
         "code", "dl", "dt", "dd"}  # fmt: skip


class Reader(HTMLParser):
    """What a browser makes of a page: its elements, and the text of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.append((self._open[-1], data))

    def of(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


def page_of(*blocks: Text | Table | Chart, text: str = "t") -> Page:
    return Page(
        title=text,
        summary=[text],
        sections=[Section(title=text, blocks=blocks)],
        commands=[f"contrarec train {text}"],
        versions={text: text},
    )


def cells(values: list[Any]) -> list[str]:
    """What the cells of a column say."""
    table = Table(title="t", columns=["c"], rows=[[value] for value in values])
    return Reader(render(page_of(table))).of("td")


def test_nothing_that_comes_from_data_becomes_an_element() -> None:
    page = page_of(
        Text(paragraphs=[EVIL]),
        Table(title=EVIL, columns=[EVIL], rows=[[EVIL]], note=EVIL),
        Chart(title=EVIL, note=EVIL, rows=[{EVIL: EVIL}], spec={"title": EVIL, EVIL: [EVIL]}),
        text=EVIL,
    )
    found = Reader(render(page))
    assert {tag for tag, _ in found.tags} <= KNOWN
    assert not any(name.startswith("on") for _, names in found.tags for name in names)
    (payload,) = (json.loads(text) for text in found.of("script") if text.startswith('{"title"'))
    assert payload["rows"] == [{EVIL: EVIL}]
    assert payload["spec"] == {"title": EVIL, EVIL: [EVIL]}
    for tag in ("title", "h1", "h2", "p", "td", "figcaption", "dd"):
        assert EVIL in "".join(found.of(tag)), tag


def test_the_policy_names_every_script_and_style_and_no_other() -> None:
    found = Reader(render(page_of(Chart(title="t", rows=[], spec={}))))
    policy = next(a["content"] for _, a in found.tags if a.get("http-equiv"))
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    scripts = [text for text in found.of("script") if not text.startswith('{"title"')]
    for kind, texts in {"script-src": scripts, "style-src": found.of("style")}.items():
        hashes = {
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
            for text in texts
        }
        assert set(rules[kind].split()) == hashes
    assert "http" not in policy
    assert not [a for _, a in found.tags if str(a.get("src", a.get("href", ""))).startswith("http")]


def test_numbers_of_a_column_have_the_same_digits() -> None:
    assert cells([0.27412, 0.1]) == ["0.2741", "0.1000"]
    assert cells([12.3456, 0.1]) == ["12.35", "0.10"]
    assert cells([1234567.8, 3.0]) == ["1,234,568", "3"]
    assert cells([1363, 20000, -5]) == ["1363", "20,000", "−5"]
    assert cells([0.5, 0.00001, -0.25]) == ["0.5000", "1.0e−05", "−0.2500"]
    assert cells([np.float32(0.5), np.int64(3)]) == ["0.500", "3"]  # 4 digits of the largest


def test_what_is_missing_is_a_dash_and_truth_is_a_word() -> None:
    assert cells([None, float("nan"), float("inf"), 0.5]) == ["–", "–", "–", "0.5000"]
    assert cells([True, False]) == ["yes", "no"]
    assert cells(["a", 1, 0.5]) == ["a", "1", "0.5"]


def test_the_exact_number_stands_beside_the_rounded_one() -> None:
    table = Table(title="t", columns=["c"], rows=[[0.123456789], [None]])
    found = Reader(render(page_of(table)))
    assert [a["data-value"] for tag, a in found.tags if tag == "td"] == ["0.123456789", ""]


def test_what_is_no_number_is_null_in_a_charts_rows() -> None:
    rows = [{"x": float("nan"), "y": np.float32(0.5), "z": Path("a")}]
    found = Reader(render(page_of(Chart(title="t", rows=rows, spec={"mark": "bar"}))))
    (payload,) = (json.loads(text) for text in found.of("script") if text.startswith('{"title"'))
    assert payload["rows"] == [{"x": None, "y": 0.5, "z": "a"}]


def test_contents_lead_to_every_section() -> None:
    found = Reader(render(page_of(text="s")))
    targets = [a["href"] for tag, a in found.tags if tag == "a" and a.get("class") != "skip"]
    assert targets == ["#summary", "#section-1", "#again"]
    assert {a.get("id") for _, a in found.tags} >= {"summary", "section-1", "again"}


def test_a_page_is_small(tmp_path: Path) -> None:
    rows = [{"epoch": n, "loss": n / 7} for n in range(2000)]
    write_page(page_of(Chart(title="t", rows=rows, spec={})), tmp_path / "a.html")
    assert 500_000 < (tmp_path / "a.html").stat().st_size < 2_000_000


def test_without_the_package_there_is_a_line_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from contrarec.report import page

    page._charts_code.cache_clear()
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(BackendError, match=re.escape("pip install 'contrarec[report]'")):
        write_page(page_of(), tmp_path / "a.html")
    assert not list(tmp_path.iterdir())
