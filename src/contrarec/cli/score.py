"""`contrarec score`: the scores of given pairs of users and items."""

from pathlib import Path
from typing import Annotated

import typer

from contrarec.cli.console import Device, Json, output
from contrarec.cli.inputs import Run, read_table
from contrarec.cli.tables import Out, check_out, finish_frame
from contrarec.errors import DataError


def score(
    run: Run,
    pairs: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="Pairs: .csv, .tsv or .parquet with columns user_id and item_id.",
        ),
    ],
    out: Out = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Score pairs of a user and an item, in the order of the file.

    The columns are user_id, item_id and score; it is empty where the user has no training history
    or the item is unknown, and a note says how many.
    """
    with output(as_json) as console:
        check_out(out)
        if not pairs.is_file():
            raise DataError(f"{pairs}: no such file.")
        from contrarec.data.columns import resolve_columns
        from contrarec.serving.stored import open_run

        answers = open_run(run, device=device)
        table = read_table(pairs)
        names = resolve_columns(table.columns, {}, f"{pairs}: ")
        frame = answers.score(table[names["user"]], table[names["item"]])
        finish_frame(console, frame, out, "scores", {"run": run, "pairs": len(frame)})
