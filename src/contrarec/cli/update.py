"""`contrarec update`: a trained run learns from interactions that came later."""

from pathlib import Path
from typing import Annotated, Any

import typer

from contrarec.cli.console import (
    INTERRUPTED,
    Device,
    Json,
    Threads,
    metrics_table,
    output,
    use_threads,
)
from contrarec.cli.inputs import Data, ItemCol, Run, TimeCol, UserCol, WeightCol, load_data
from contrarec.errors import ConfigError


def update(
    run: Run,
    data: Data,
    epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Passes over all interactions; a tenth of what training took if not given.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="RUN2", help="The new run's folder; RUN-updated if not given."),
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    weight_col: WeightCol = None,
    as_json: Json = False,
) -> None:
    """Learn from a new log without starting over.

    DATA holds what is new: a log, or a folder whose train part is new and whose valid part, if
    there is one, picks the best epoch. New users and items join the old ones. The run stays as it
    is; the new one appears when it is done.
    """
    with output(as_json) as console:
        from contrarec import runs
        from contrarec.recommender import Recommender
        from contrarec.training.progress import progress

        folder = out or run.with_name(f"{run.resolve().name}-updated")
        if runs.is_started(folder):
            raise ConfigError(f"{folder}: already holds a run; choose another folder (--out).")
        recommender = Recommender.load(run, device=device)
        use_threads(threads)
        later = load_data(data, user_col, item_col, time_col, weight_col)
        for note in later.notes:
            console.note(note)
        planned = recommender.update_settings(epochs).training
        with progress(planned) as hooks:
            updated = recommender.update(later, epochs=epochs, hooks=hooks)
        if updated.result["stopped"] == "interrupted":
            console.say("interrupted; nothing was written.")
            raise typer.Exit(INTERRUPTED)
        updated.save(folder)
        result = updated.result | {"run": str(folder)}
        console.finish(result, lambda: _text(result))


def _text(result: dict[str, Any]) -> str:
    new = ", ".join(
        f"{result[f'new_{what}']} new {what}" for what in ("interactions", "users", "items")
    )
    course = f"{result['epochs']} epochs, {result['seconds']:.1f} s"
    table = f"\n\n{metrics_table(result['metrics'])}" if result["metrics"] else ""
    return f"{result['run']}: {new}, {course}{table}"
