"""A page in a real browser, for tests of what contrarec shows in one."""

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response

NAMES = ("chromium", "chromium-browser", "google-chrome")
"""What a browser may be called that these tests run in, as it comes with the system."""
FLAGS = (
    "--no-sandbox",  # the tests may run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
OFFLINE = ("file:", "data:", "blob:", "about:")
"""Addresses that no network is needed for."""


@dataclass(frozen=True)
class BrowserPage:
    """A page, and what has gone wrong on it."""

    page: "Page"
    """Playwright's, 1440 × 900; `page.set_viewport_size` makes it a phone's."""
    errors: list[str] = field(default_factory=list)
    """Errors on the console, and exceptions that nothing caught."""
    requests: list[str] = field(default_factory=list)
    """Addresses that were asked for over a network."""
    failed: list[str] = field(default_factory=list)
    """Addresses that were not answered, or with a status from 400 on."""

    def overflow(self) -> int:
        """How many pixels of the page do not fit the window's width."""
        width = "document.documentElement"
        found: int = self.page.evaluate(f"{width}.scrollWidth - {width}.clientWidth")
        return found


@pytest.fixture(scope="session")
def _browser() -> "Iterator[tuple[Browser, asyncio.AbstractEventLoop]]":
    """One browser for all tests; without one they are skipped."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None or find_spec("playwright") is None:
        what = f"none of {', '.join(NAMES)}" if path is None else "no playwright"
        pytest.skip(f"{what} is installed, so what a browser shows is not tested")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)
        yield started, loop
        asyncio._set_running_loop(loop)
        started.close()


@pytest.fixture
def browser_page(
    _browser: "tuple[Browser, asyncio.AbstractEventLoop]",
) -> Iterator[BrowserPage]:
    """A fresh page with no cookies and nothing stored, closed after the test."""
    started, loop = _browser
    # Playwright keeps its event loop running in this thread for as long as the browser lives. It
    # is put aside after each test, or every later test with a loop of its own would fail.
    asyncio._set_running_loop(loop)
    context = started.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(10_000)
    watched = BrowserPage(context.new_page())
    _watch(watched)
    yield watched
    context.close()
    asyncio._set_running_loop(None)


def _watch(watched: BrowserPage) -> None:
    def on_console(message: "ConsoleMessage") -> None:
        if message.type == "error":
            watched.errors.append(message.text)

    def on_request(request: "Request") -> None:
        if not request.url.startswith(OFFLINE):
            watched.requests.append(request.url)

    def on_response(answer: "Response") -> None:
        if answer.status >= 400:
            watched.failed.append(answer.url)

    page = watched.page
    page.on("console", on_console)
    page.on("pageerror", lambda error: watched.errors.append(error.message))
    page.on("request", on_request)
    page.on("requestfailed", lambda request: watched.failed.append(request.url))
    page.on("response", on_response)
