"""The command line: one file per sub-command, nothing heavy imported before a command runs."""

import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from contrarec.cli.console import INTERRUPTED
from contrarec.errors import ContrarecError

_COMMANDS = (
    "train", "evaluate", "methods", "tune", "compare", "audit", "report", "recommend", "similar",
    "score", "update", "export", "serve", "demo", "doctor",
)  # fmt: skip
"""In the order of the help; each is a function of the same name in a module of the same name."""

app = typer.Typer(
    name="contrarec",
    help="Contrastive collaborative filtering: from an interaction log to recommendations that "
    "hold up when popularity or exposure shifts.",
    epilog="Every command takes --json: one JSON object on standard output, nothing else there.",
    rich_markup_mode=None,  # loading rich takes longer than everything else that --help does
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(import_module("contrarec.cli.data").app, name="data")
app.add_typer(import_module("contrarec.cli.analyse").app, name="analyse")
for _name in _COMMANDS:
    app.command(_name)(getattr(import_module(f"contrarec.cli.{_name}"), _name))


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"contrarec {version('contrarec')}")  # noqa: T201
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, help="Show the version.")
    ] = False,
) -> None:
    """Take the options that come before a sub-command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: those of the process if None.

    Returns:
        The exit status: 0 after success, 2 after a wrong input or setting (with one line on
        standard error), 130 after Ctrl-C. Any other exception is a bug and passes through.
    """
    if arguments is not None:
        return _run(arguments)
    # Importing torch makes a million objects that stay: looking for garbage among them at every
    # 700 new ones, and once more at the end, would take a third of the time of a short command.
    gc.set_threshold(100_000)
    # Threads that wait by sleeping: spinning ones keep the last one off its core where something
    # else runs, and every operation of both takes a time slice. OpenMP reads this when it loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        return _run(sys.argv[1:])
    finally:
        gc.freeze()


def _run(arguments: Sequence[str]) -> int:
    command = typer.main.get_command(app)
    words = list(arguments) or ["--help"]
    try:
        status = command.main(words, prog_name="contrarec", standalone_mode=False)
    except ContrarecError as error:
        return _refuse(str(error))
    except (
        FileNotFoundError,
        FileExistsError,
        NotADirectoryError,
        IsADirectoryError,
        PermissionError,
    ) as error:
        if error.filename is None:
            raise
        return _refuse(f"{error.filename}: {error.strerror}.")
    except typer.Abort:
        return INTERRUPTED
    except Exception as error:
        # typer's own errors: their class has moved between typer's versions, their method has not
        if not hasattr(error, "format_message"):
            raise
        return _refuse(_usage(error))
    return status if isinstance(status, int) else 0


def _refuse(message: str) -> int:
    print("contrarec: error:", " ".join(message.split()), file=sys.stderr)  # noqa: T201
    return 2


def _usage(error: Any) -> str:
    context = getattr(error, "ctx", None)
    hint = f" See '{context.command_path} --help'." if context else ""
    return f"{error.format_message()}{hint}"
