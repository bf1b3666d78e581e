"""`contrarec recommend`: items for users, by the ids of the data."""

from typing import Annotated

import typer

from contrarec.cli.console import Device, Json, output
from contrarec.cli.inputs import Run, read_ids
from contrarec.cli.tables import Out, check_out, finish_frame


def recommend(
    run: Run,
    users: Annotated[
        str,
        typer.Option(
            metavar="FILE|ID,ID,…",
            help="User ids between commas; or a file of them: .txt with one a line, or .csv, .tsv "
            "or .parquet with a column user_id.",
        ),
    ],
    k: Annotated[int, typer.Option("--k", metavar="N", help="Items for each user.")] = 20,
    out: Out = None,
    include_seen: Annotated[
        bool,
        typer.Option("--include-seen", help="Recommend items of the user's history, too."),
    ] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Recommend items to users.

    The columns are user_id, item_id, score and rank. Users without training history get the most
    popular items, and a note says how many.
    """
    with output(as_json) as console:
        check_out(out)
        from contrarec.recommender import Recommender

        recommender = Recommender.load(run, device=device)
        ids = read_ids(users, recommender.users, "user")
        frame = recommender.recommend(ids, k=k, filter_viewed=not include_seen)
        finish_frame(
            console, frame, out, "recommendations", {"run": run, "users": len(ids), "k": k}
        )
