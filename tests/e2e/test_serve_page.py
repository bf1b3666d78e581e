"""The server's page in a real browser: by keyboard, by click, on a phone, in the dark."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import BrowserPage
from contrarec.recommender import Recommender
from servers import NASTY, Server, served, train

PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "spring"
    train(folder)
    return folder


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[Server]:
    with served(run) as started:
        yield started


def listed(shown: BrowserPage, panel: str) -> list[str]:
    return shown.page.locator(f"#{panel} .id").all_text_contents()


def clean(shown: BrowserPage, server: Server) -> None:
    assert shown.errors == []
    assert shown.failed == []
    assert {request.startswith(f"{server.url}/") for request in shown.requests} == {True}


def test_by_keyboard(browser_page: BrowserPage, server: Server, run: Path) -> None:
    page = browser_page.page
    page.goto(server.url)
    page.wait_for_selector("#user:focus")
    page.keyboard.type("u2")
    page.wait_for_selector("#users li:nth-child(5)")
    assert page.locator("#users li").all_text_contents() == ["u2", "u20", "u21", "u22", "u23"]
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.get_attribute("#user", "aria-activedescendant") == "user-1"
    page.keyboard.press("Enter")
    page.wait_for_selector("#recommended li")
    assert page.url == f"{server.url}/#user=u20"
    assert not page.is_visible("#users")
    library = Recommender.load(run)
    want = library.recommend(["u20"], k=20)["item_id"].to_list()
    assert listed(browser_page, "recommended") == want
    assert listed(browser_page, "history")[0] == "i1"
    assert page.text_content("#history li:first-child .count") == "24"
    page.focus("#recommended li:first-child button")
    page.keyboard.press("Enter")
    page.wait_for_selector("#similar li")
    near = library.similar_items([want[0]], k=20)["similar_item_id"].to_list()
    assert listed(browser_page, "similar") == near
    page.go_back()
    page.wait_for_selector("#similar li", state="detached")
    assert listed(browser_page, "recommended") == want
    clean(browser_page, server)


def test_on_a_phone_with_an_id_that_looks_like_html(
    browser_page: BrowserPage, server: Server
) -> None:
    page = browser_page.page
    page.set_viewport_size(PHONE)
    page.goto(f"{server.url}/#user=u1")
    page.wait_for_selector("#recommended li")
    page.click("#more")
    assert NASTY in listed(browser_page, "history")
    page.click(f"#history button:has-text({NASTY!r})")
    page.wait_for_selector("#similar li")
    assert page.text_content("#similar-title") == f"Similar to {NASTY}"
    assert page.locator("#panels img").count() == 0
    box = page.locator("#similar-panel").bounding_box()
    assert box
    assert -1 <= box["y"] < PHONE["height"] / 2  # it has come into view
    assert browser_page.overflow() == 0
    page.goto(f"{server.url}/docs")
    assert browser_page.overflow() == 0
    clean(browser_page, server)


def test_an_unknown_user(browser_page: BrowserPage, server: Server) -> None:
    page = browser_page.page
    page.goto(server.url)
    page.fill("#user", "nobody<b>")
    page.wait_for_selector("#status:has-text('starts with')")
    page.keyboard.press("Enter")
    page.wait_for_selector("#recommended li")
    assert "most popular items" in (page.text_content("#recommended-note") or "")
    assert listed(browser_page, "recommended")[0] == "i1"
    assert listed(browser_page, "history") == []


def test_light_and_dark(browser_page: BrowserPage, server: Server) -> None:
    page = browser_page.page
    page.goto(f"{server.url}/#user=u1")
    page.wait_for_selector("#recommended li")
    brightness = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for name, what in (("ground", "backgroundColor"), ("ink", "color")):
            said = page.evaluate(f"getComputedStyle(document.body).{what}")
            brightness[scheme, name] = sum(map(int, re.findall(r"\d+", said)[:3]))
    assert brightness["light", "ground"] > 600 > 200 > brightness["light", "ink"]
    assert brightness["dark", "ground"] < 200 < 600 < brightness["dark", "ink"]


def test_a_key_is_asked_for(browser_page: BrowserPage, run: Path) -> None:
    page = browser_page.page
    with served(run, key="sesame") as server:
        page.goto(f"{server.url}/#user=u1")
        page.wait_for_selector("#key-form:not([hidden])")
        assert not page.is_visible("#panels")
        page.fill("#key", "sesame")
        page.keyboard.press("Enter")
        page.wait_for_selector("#recommended li")
        assert not page.is_visible("#key-form")
