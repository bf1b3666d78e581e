"""The end of every analysis: its page, if one is wanted, and its result."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contrarec.cli.console import Output
from contrarec.errors import ConfigError


def check_page(page: Path | None) -> None:
    """Refuse a page that could not be written, before the work for it is done.

    Raises:
        ConfigError: its type is another, or its folder is not there.
    """
    if page is not None and page.suffix.lower() != ".html":
        raise ConfigError(f"--page must end in .html, got {str(page)!r}.")
    if page is not None and not page.parent.is_dir():
        raise ConfigError(f"--page: no folder {str(page.parent)!r}.")


def finish(
    console: Output,
    result: dict[str, Any],
    page: Path | None,
    text: Callable[[dict[str, Any]], str],
) -> None:
    """Write the page, if one is wanted, and print the result."""
    if page is not None:
        from contrarec.report.analyses import page_of
        from contrarec.report.page import write_page

        write_page(page_of(result, shlex.join(["contrarec", *sys.argv[1:]])), page)
        console.say(f"written: {page}")
    console.finish(result, lambda: text(result))
