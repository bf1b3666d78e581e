"""`contrarec recommend`: items for users, by the ids of the data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrarec.cli.console import Device, Json, Output, Threads, output, use_threads
from contrarec.cli.inputs import Run, read_ids, read_items
from contrarec.cli.tables import Out, check_out, finish_frame
from contrarec.cli.workers import RayAddress, Workers, launch_of
from contrarec.errors import ConfigError

if TYPE_CHECKING:
    import polars as pl

    from contrarec.answers import Answers
    from contrarec.distributed.cluster import Launch

_ALL = "all"
_LIST = "a file (.txt, .csv, .tsv, .parquet) with a column item_id"


def recommend(
    run: Run,
    users: Annotated[
        str,
        typer.Option(
            metavar="FILE|ID,ID,…|all",
            help="User ids between commas; or a file of them: .txt with one a line, or .csv, .tsv "
            "or .parquet with a column user_id; or all, which needs --out.",
        ),
    ],
    k: Annotated[int, typer.Option("--k", metavar="N", help="Items for each user.")] = 20,
    out: Out = None,
    include_seen: Annotated[
        bool,
        typer.Option("--include-seen", help="Recommend items of the user's history, too."),
    ] = False,
    exclude: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"Items to leave out: {_LIST}, and user_id if each user has a list.",
        ),
    ] = None,
    allow: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The only items to recommend: likewise; of a column `available` only true counts.",
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Add the nearest item of the user's history."),
    ] = False,
    workers: Workers = None,
    ray_address: RayAddress = None,
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Recommend items to users.

    The columns are user_id, item_id, score and rank; with --explain also because_item_id and
    similarity. Users without training history get the most popular items, and a note says how
    many. A user whom the filters leave fewer than K items gets fewer. With --workers N, N workers
    write the same table; the run and --out must be in folders that all machines see.
    """
    with output(as_json) as console:
        check_out(out)
        if users == _ALL and out is None:
            raise ConfigError("--users all needs --out, a .parquet or .csv file to write.")
        launch = launch_of(workers, ray_address, device, threads)
        if launch and out is None:
            raise ConfigError("--workers needs --out, a .parquet or .csv file to write.")
        if threads is not None:
            use_threads(threads)
        from contrarec.serving.stored import MANY_SCORES, open_model, open_run

        answers = open_run(run, device="auto" if launch else device)
        ids = answers.users.ids if users == _ALL else read_ids(users, answers.users, "user")
        if launch is None and len(ids) * len(answers.items) > MANY_SCORES:
            answers = open_model(run, device=device)
        filters: dict[str, Any] = {
            "filter_viewed": not include_seen,
            "exclude": exclude and read_items(exclude),
            "allow": allow and read_items(allow),
        }
        about = {"run": run, "users": len(ids), "k": k}
        if out is not None:
            _stream(console, answers, ids, out, about, filters | {"explain": explain}, launch)
            return
        frame = answers.recommend(ids, k=k, **filters)
        if explain:
            frame = answers.with_reasons(frame)
        finish_frame(console, frame, None, "recommendations", about)


def _stream(
    console: Output,
    answers: "Answers",
    ids: "pl.Series",
    out: Path,
    about: dict[str, Any],
    options: dict[str, Any],
    launch: "Launch | None",
) -> None:
    from contrarec.serving.batch import BLOCK, recommend_to

    def tell(users: int, rows: int, seconds: float) -> None:
        console.say(f"{users:,} of {len(ids):,} users, {rows / seconds:,.0f} rows a second")

    if launch is None:
        done = recommend_to(answers, ids, out, about["k"], on_block=tell, **options)
    else:
        from contrarec.distributed.recommending import recommend_together

        done = recommend_together(
            about["run"], answers, ids, out, about["k"], launch=launch, on_part=tell, **options
        )
    result = {**about, "out": out} | done
    speed = f", {done['rows_per_second']:,.0f} rows a second" if len(ids) > BLOCK else ""
    console.finish(result, lambda: f"{out}: {done['rows']} recommendations{speed}")
