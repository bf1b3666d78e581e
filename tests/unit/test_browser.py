"""The page that browser tests get sees what goes wrong."""

import asyncio
from pathlib import Path

from browser import BrowserPage


def test_a_page_that_does_nothing_wrong(browser_page: BrowserPage, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<!doctype html><title>ä</title><p>fine")
    browser_page.page.goto((tmp_path / "page.html").as_uri())
    assert browser_page.page.inner_text("p") == "fine"
    assert browser_page.errors == browser_page.requests == browser_page.failed == []
    assert browser_page.overflow() == 0


def test_what_goes_wrong_is_recorded(browser_page: BrowserPage, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        "<!doctype html><script>console.error('said'); throw new Error('thrown')</script>"
        "<img src='http://127.0.0.1:1/a.png'><img src='no.png'><div style='width: 1500px'>wide"
    )
    browser_page.page.goto((tmp_path / "page.html").as_uri())
    assert {"said", "thrown"} <= set(browser_page.errors)
    assert browser_page.requests == ["http://127.0.0.1:1/a.png"]
    assert {url.rpartition("/")[2] for url in browser_page.failed} == {"a.png", "no.png"}
    assert browser_page.overflow() > 50


def test_a_test_after_it_may_run_a_loop_of_its_own() -> None:
    async def one() -> int:
        return 1

    assert asyncio.run(one()) == 1


def test_and_one_after_that_may_have_a_page_again(
    browser_page: BrowserPage, tmp_path: Path
) -> None:
    test_a_page_that_does_nothing_wrong(browser_page, tmp_path)
