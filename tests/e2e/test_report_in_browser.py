"""A report as a person meets it: in a real browser, from disk, at a desk and on a phone."""

import csv
import io
import re
from pathlib import Path

import pytest

from browser import BrowserPage
from contrarec.report.blocks import Chart, Page, Section, Table, Text
from contrarec.report.page import write_page

EVIL = "</script></script ><img src=x onerror=\"console.error('ran')\">\"'&"
LINES = [
    {"epoch": epoch, "set": name, "value": 0.01 * epoch + 0.05 * (name == "ood")}
    for epoch in range(1, 11)
    for name in ("valid", "ood")
]
LINE = {
    "mark": {"type": "line", "point": True},
    "encoding": {
        "x": {"field": "epoch", "type": "quantitative"},
        "y": {"field": "value", "type": "quantitative", "title": EVIL},
        "color": {"field": "set", "type": "nominal"},
    },
}
BARS = {
    "params": [{"name": "of", "value": "a", "bind": {"input": "select", "options": ["a", EVIL]}}],
    "transform": [{"filter": "datum.of === of"}],
    "mark": "bar",
    "encoding": {
        "y": {"field": "method", "type": "nominal"},
        "x": {"field": "value", "type": "quantitative"},
    },
}
BAR_ROWS = [
    {"method": f"{method} {EVIL}", "of": of, "value": value}
    for of, methods in {"a": "xyz", EVIL: "x"}.items()
    for value, method in enumerate(methods, 1)
]
PANELS = {
    "mark": "line",
    "encoding": {
        "facet": {"field": "set", "type": "nominal"},
        "x": {"field": "epoch", "type": "quantitative"},
        "y": {"field": "value", "type": "quantitative"},
    },
}
COLUMNS = ["name", "value", *(f"wide column {n}" for n in range(12))]
TABLE = [
    [name, value, *range(12)]
    for name, value in [("b10", 0.25), (f"b9, {EVIL}", None), ("a", -3.5), ("c", 12.0)]
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report with a chart of each kind and a table that is wider than a phone."""
    page = Page(
        title=f"A report {EVIL}",
        summary=[f"What it says {EVIL}."],
        sections=[
            Section(
                title="Charts",
                blocks=[
                    Text(paragraphs=["Some words. " * 40]),
                    Chart(title=f"Lines {EVIL}", spec=LINE, rows=LINES, note=f"Note {EVIL}"),
                    Chart(title="Bars", spec=BARS, rows=BAR_ROWS),
                    Chart(title="Panels", spec=PANELS, rows=LINES),
                ],
            ),
            Section(title="Tables", blocks=[Table(title="Rows", columns=COLUMNS, rows=TABLE)]),
        ],
        commands=["contrarec train " + "a-long-path/" * 20],
        versions={"contrarec": "0.1.0"},
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_page(page, path)
    return path.as_uri()


def opened(browser_page: BrowserPage, address: str) -> BrowserPage:
    browser_page.page.goto(address)
    browser_page.page.wait_for_selector("html[data-drawn]")
    return browser_page


def column(watched: BrowserPage, number: int) -> list[str]:
    return watched.page.locator(f"tbody td:nth-child({number})").all_inner_texts()


def test_it_opens_from_disk_draws_and_asks_nobody(browser_page: BrowserPage, address: str) -> None:
    watched = opened(browser_page, address)
    assert watched.errors == watched.requests == watched.failed == []
    plots = watched.page.locator("figure .plot > svg")
    assert plots.count() == 3
    marks = ".mark-symbol.role-mark path, .mark-rect.role-mark path, .mark-line.role-mark path"
    drawn = [plots.nth(n).locator(marks).count() for n in range(3)]
    assert drawn == [22, 3, 2]  # 2 lines with 10 points each; 3 bars; a line in each of 2 panels
    assert watched.page.locator("img").count() == 0
    assert watched.page.title() == f"A report {EVIL}"


def test_the_policy_keeps_a_script_from_running_and_asking(
    browser_page: BrowserPage, address: str
) -> None:
    watched = opened(browser_page, address)
    watched.page.evaluate(
        """() => {
            document.body.insertAdjacentHTML("beforeend", `<b onclick="window.ran = 1">x</b>`);
            document.body.lastElementChild.click();
            const script = document.createElement("script");
            script.textContent = "window.ran = 2";
            document.body.append(script);
            return fetch("http://127.0.0.1:1/").catch(() => 0);
        }"""
    )
    assert watched.page.evaluate("window.ran") is None
    assert watched.requests == []
    assert len(watched.errors) >= 3  # the browser says that it refused


def test_a_chart_has_a_name_for_those_who_do_not_see_it(
    browser_page: BrowserPage, address: str
) -> None:
    watched = opened(browser_page, address)
    plot = watched.page.locator("figure .plot").first
    assert plot.get_attribute("aria-label") == f"Lines {EVIL}. Note {EVIL}"
    assert plot.get_attribute("role") == "graphics-document"


def test_pointing_at_a_mark_says_its_values(browser_page: BrowserPage, address: str) -> None:
    watched = opened(browser_page, address)
    watched.page.locator("figure").nth(1).locator(".mark-rect.role-mark path").nth(2).hover()
    told = watched.page.locator("#vg-tooltip-element.visible").inner_text()
    assert "z </script></script ><img" in told
    assert "3" in told
    assert watched.page.locator("img").count() == 0


def test_choosing_draws_other_rows(browser_page: BrowserPage, address: str) -> None:
    watched = opened(browser_page, address)
    figure = watched.page.locator("figure").nth(1)
    figure.locator("select").select_option(EVIL)
    bars = figure.locator(".plot > svg .mark-rect.role-mark path")
    watched.page.wait_for_function(
        "document.querySelectorAll('figure')[1].querySelectorAll('.mark-rect.role-mark path')"
        ".length === 1"
    )
    assert bars.count() == 1


def test_a_chart_and_its_data_can_be_taken_along(browser_page: BrowserPage, address: str) -> None:
    watched = opened(browser_page, address)
    figure = watched.page.locator("figure").first
    texts = {}
    for kind in ("svg", "csv"):
        with watched.page.expect_download() as waiting:
            figure.locator(f'button[data-save="{kind}"]').click()
        assert waiting.value.suggested_filename.endswith(f".{kind}")
        texts[kind] = Path(waiting.value.path()).read_text(encoding="utf-8")
    assert texts["svg"].startswith("<svg")
    assert "<title>Lines &#60;/script" in texts["svg"]
    assert "<img" not in texts["svg"]
    rows = list(csv.DictReader(io.StringIO(texts["csv"])))
    assert len(rows) == len(LINES)
    assert {name: str(value) for name, value in LINES[3].items()} == rows[3]
    assert watched.errors == watched.requests == []


def test_a_charts_data_open_as_a_table(browser_page: BrowserPage, address: str) -> None:
    watched = opened(browser_page, address)
    details = watched.page.locator("figure details").first
    details.locator("summary").click()
    assert details.locator("tbody tr").count() == len(LINES)
    assert details.locator("thead th").all_inner_texts() == ["epoch", "set", "value"]


def test_a_table_sorts_by_click_and_by_keyboard(browser_page: BrowserPage, address: str) -> None:
    watched = opened(browser_page, address)
    names, values = (watched.page.locator("thead th").nth(n) for n in range(2))
    values.locator("button").click()  # the largest first; what is missing last
    assert column(watched, 2) == ["12.00", "0.25", "−3.50", "–"]
    assert values.get_attribute("aria-sort") == "descending"
    values.locator("button").press("Enter")
    assert column(watched, 2) == ["−3.50", "0.25", "12.00", "–"]
    assert values.get_attribute("aria-sort") == "ascending"
    names.locator("button").press("Space")
    assert [name[:3] for name in column(watched, 1)] == ["a", "b9,", "b10", "c"]
    assert names.get_attribute("aria-sort") == "ascending"
    assert values.get_attribute("aria-sort") is None


def test_a_table_as_csv_has_exact_values_in_the_order_shown(
    browser_page: BrowserPage, address: str
) -> None:
    watched = opened(browser_page, address)
    watched.page.locator("thead th").nth(1).locator("button").click()
    with watched.page.expect_download() as waiting:
        watched.page.locator('section.block button[data-save="csv"]').click()
    with Path(waiting.value.path()).open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == COLUMNS
    assert [row[:2] for row in rows] == [
        ["c", "12.0"], ["b10", "0.25"], ["a", "-3.5"], [f"b9, {EVIL}", ""],
    ]  # fmt: skip


@pytest.mark.parametrize("preferred", ["light", "dark"])
def test_light_and_dark(browser_page: BrowserPage, address: str, preferred: str) -> None:
    browser_page.page.emulate_media(color_scheme=preferred)  # type: ignore[arg-type]
    watched = opened(browser_page, address)
    seen = [_colours(watched)]
    watched.page.locator("#theme").click()
    other = {"light": "dark", "dark": "light"}[preferred]
    watched.page.wait_for_selector(f"html[data-drawn={other}]")
    seen.append(_colours(watched))
    light, dark = seen if preferred == "light" else seen[::-1]
    assert light["paper"] > 200 > 60 > dark["paper"]
    for found in seen:
        assert found["words"] >= 4.5
        assert found["marks"] >= 3
    assert watched.errors == []


def _colours(watched: BrowserPage) -> dict[str, float]:
    """How light the paper is, and the lowest contrast to it of words and of marks."""
    paper, *words = watched.page.evaluate(
        """() => [getComputedStyle(document.body).backgroundColor,
            ...[...document.querySelectorAll("p, h1, td, th button, a, dt, .note, summary")]
                .map((part) => getComputedStyle(part).color)]"""
    )
    labels, marks = (
        watched.page.evaluate(
            """(of) => [...document.querySelectorAll(of)].map((part) => {
                const style = getComputedStyle(part);
                return style.fill === "none" ? style.stroke : style.fill;
            }).filter((colour) => colour.startsWith("rgb"))""",
            selector,
        )
        for selector in (".plot svg text", ".plot svg .role-mark path")
    )
    assert len(words) > 20
    assert len(labels) > 20
    assert len(marks) > 20
    return {
        "paper": _rgb(paper)[0],
        "words": min(_contrast(colour, paper) for colour in (*words, *labels)),
        "marks": min(_contrast(colour, paper) for colour in marks if _rgb(colour) != _rgb(paper)),
    }


def _rgb(colour: str) -> list[float]:
    return [float(part) for part in re.findall(r"[\d.]+", colour)[:3]]


def _contrast(one: str, other: str) -> float:
    """Contrast of two colours, by the definition of WCAG 2."""
    lights = []
    for colour in (one, other):
        parts = [part / 255 for part in _rgb(colour)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


@pytest.mark.parametrize("width", [390, 1440])
def test_no_page_scrolls_sideways(browser_page: BrowserPage, address: str, width: int) -> None:
    browser_page.page.set_viewport_size({"width": width, "height": 844})
    watched = opened(browser_page, address)
    assert watched.overflow() == 0
    box = watched.page.locator(".box").first
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    plot = watched.page.locator("figure .plot > svg").first
    size = plot.bounding_box()
    assert size is not None
    assert 330 < size["width"] <= 358 if width == 390 else size["width"] > 800


def test_turning_the_phone_draws_to_the_new_width(browser_page: BrowserPage, address: str) -> None:
    browser_page.page.set_viewport_size({"width": 844, "height": 390})
    watched = opened(browser_page, address)
    watched.page.set_viewport_size({"width": 390, "height": 844})
    watched.page.wait_for_function(
        "document.querySelector('.plot > svg')?.getBoundingClientRect().width <= 358"
    )
    assert watched.overflow() == 0


def test_the_palettes_can_be_told_apart_from_the_paper() -> None:
    script = (Path(__file__).parents[2] / "src/contrarec/report/assets/page.js").read_text(
        encoding="utf-8"
    )
    for name, palette in re.findall(r'paper: "(#\w+)".*?category: \[(.*?)\]', script, re.S):
        colours = re.findall(r"#\w{6}", palette)
        assert len(colours) == 8
        for colour in colours:
            one, other = (
                str(tuple(int(code[at : at + 2], 16) for at in (1, 3, 5)))
                for code in (colour, name)
            )
            assert _contrast(one, other) >= 3, colour
