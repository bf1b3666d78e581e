"""Result tables of `recommend` and `similar`: to a file, or to standard output."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrarec.cli.console import Output, table
from contrarec.errors import ConfigError
from contrarec.files import replacing

if TYPE_CHECKING:
    import polars as pl

SUFFIXES = (".parquet", ".csv")

Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write .parquet or .csv instead of standard output."),
]


def check_out(out: Path | None) -> None:
    """Refuse a file that could not be written, before the work for it is done.

    Raises:
        ConfigError: its type is unknown, or its folder is not there.
    """
    if out is None:
        return
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--out must end in {' or '.join(SUFFIXES)}, got {str(out)!r}.")
    if not out.parent.is_dir():
        raise ConfigError(f"--out: no folder {str(out.parent)!r}.")


def finish_frame(
    console: Output, frame: "pl.DataFrame", out: Path | None, name: str, about: dict[str, Any]
) -> None:
    """Write a frame to `out`, or print it.

    Args:
        console: where the result is printed.
        frame: the rows.
        out: a file that `check_out` has passed, or None for standard output.
        name: what the rows are called in JSON.
        about: what else belongs into the JSON.
    """
    if out is None:
        console.finish(
            {**about, name: frame.to_dicts() if console.as_json else None},
            lambda: table([frame.columns, *frame.rows()]),
        )
        return
    with replacing(out) as temporary:
        if out.suffix.lower() == ".csv":
            frame.write_csv(temporary)
        else:
            frame.write_parquet(temporary)
    rows = len(frame)
    console.finish({**about, "out": out, "rows": rows}, lambda: f"{out}: {rows} {name}")
