"""What the sub-commands of `contrarec data` share: options, and the report on a data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrarec.cli.console import Output, table
from contrarec.errors import ConfigError

if TYPE_CHECKING:
    from contrarec.data.dataset import Dataset

Folder = Annotated[Path, typer.Option(metavar="DIR", help="The folder to write, a new one.")]
Log = Annotated[str, typer.Argument(metavar="LOG", help="A log file, or a folder of parts.")]
LogFile = Annotated[Path, typer.Option(metavar="FILE", help="The .parquet file to write.")]


def require_new(file: Path) -> None:
    """Raise unless a log file can be written there.

    Raises:
        ConfigError: it is not called `.parquet`, it is there already, or its folder is not.
    """
    if file.suffix.lower() != ".parquet":
        raise ConfigError(f"--out must end in .parquet, got '{file}'.")
    if file.exists():
        raise ConfigError(f"--out {file}: already there.")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"--out {file}: no folder '{file.parent}'.")


def report(console: Output, data: "Dataset", about: dict[str, Any]) -> None:
    """End a command with what a data set holds; what was done to it becomes notes."""
    described = data.describe()
    for note in described.pop("notes"):
        console.note(note)
    console.finish({**about, **described}, lambda: _text(described))


def _text(report: dict[str, Any]) -> str:
    keys = list(dict.fromkeys(key for part in report["parts"].values() for key in part))
    rows: list[list[Any]] = [["part", *(key.replace("_", " ") for key in keys)]]
    rows += [[name, *(part.get(key) for key in keys)] for name, part in report["parts"].items()]
    return (
        f"{report['name']}: {report['users']} users, {report['items']} items, of which "
        f"{report['candidates']} may be ranked\n{table(rows)}\n"
        f"popularity kl: {report['popularity_kl']}"
    )
