"""`contrarec data fetch`: public data sets by name."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrarec.cli.console import Json, Output, output, table
from contrarec.cli.data.shared import report
from contrarec.errors import ConfigError

if TYPE_CHECKING:
    from contrarec.data.catalog.download import Progress
    from contrarec.data.catalog.entries import Entry


def fetch(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The data set; without it, all are listed.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Accept the licence, and do not ask.")
    ] = False,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="PATH", help="Read your own archive or folder, download nothing."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch a public data set and convert it to the parts that papers use.

    Where it comes from, its size and its licence are shown before anything is downloaded. What was
    fetched serves as DATA by its name: contrarec train coat. It lies in the folder that
    CONTRAREC_CACHE names, else in the user's cache; a download that stopped goes on.
    """
    with output(as_json) as console:
        from contrarec.data import catalog

        if name is None:
            _list(console)
            return
        entry, folder = catalog.find(name), catalog.folder(name)
        known = folder.exists()
        accepted = yes or known or source is not None or entry.url is None
        if known:
            console.say(f"{folder}: fetched before; delete it to fetch it again.")
        elif not accepted:
            _ask(entry)
        with _progress() as progress:
            data = catalog.fetch(name, accept=True, source=source, progress=progress)
        report(console, data, {"out": folder, "path": folder, "url": entry.url})


def _list(console: Output) -> None:
    from contrarec.data import catalog

    entries = catalog.ENTRIES.values()
    listed = [{**vars(e), "fetched": catalog.folder(e.name).exists()} for e in entries]
    rows: list[list[Any]] = [["name", "fetched", "size", "licence"]]
    rows += [[e["name"], "yes" if e["fetched"] else "", e["size"], e["licence"]] for e in listed]
    result = {"cache": catalog.cache_folder(), "data": listed}
    console.finish(result, lambda: table(rows))


def _ask(entry: "Entry") -> None:
    """Show what there is to know, and have it accepted.

    Raises:
        ConfigError: it is not, or nobody is there to be asked.
    """
    print(entry.card(), file=sys.stderr)  # noqa: T201
    if not sys.stdin.isatty():
        raise ConfigError(f"{entry.name}: accept the licence with --yes to download it.")
    if not typer.confirm("Download it under this licence?", err=True):
        raise ConfigError(f"{entry.name}: not downloaded, since the licence was not accepted.")


@contextmanager
def _progress() -> Iterator["Progress | None"]:
    """Show on a terminal how much has come."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("download", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
