"""`contrarec similar`: the items nearest to an item."""

from typing import Annotated

import typer

from contrarec.cli.console import Device, Json, output
from contrarec.cli.inputs import Run, read_ids
from contrarec.cli.tables import Out, check_out, finish_frame


def similar(
    run: Run,
    items: Annotated[
        str,
        typer.Option(
            metavar="FILE|ID,ID,…",
            help="Item ids between commas; or a file of them: .txt with one a line, or .csv, .tsv "
            "or .parquet with a column item_id.",
        ),
    ],
    k: Annotated[int, typer.Option("--k", metavar="N", help="Neighbours of each item.")] = 20,
    out: Out = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Find the items nearest to an item.

    The columns are item_id, similar_item_id, score (the cosine of their vectors; a baseline has
    measures of its own) and rank.
    """
    with output(as_json) as console:
        check_out(out)
        from contrarec.serving.stored import MANY_SCORES, open_model, open_run

        answers = open_run(run, device=device)
        ids = read_ids(items, answers.items, "item")
        if len(ids) * len(answers.items) > MANY_SCORES:
            answers = open_model(run, device=device)
        frame = answers.similar_items(ids, k=k)
        finish_frame(console, frame, out, "neighbours", {"run": run, "items": len(ids), "k": k})
