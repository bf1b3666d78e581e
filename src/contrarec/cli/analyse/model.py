"""Analyses of one model: hardness, false negatives, geometry, and the KL ball."""

from pathlib import Path
from typing import Annotated

import typer

from contrarec.cli.analyse.opening import (
    Wanted,
    chosen_settings,
    known_users,
    open_source,
    trace_of,
)
from contrarec.cli.analyse.options import (
    Backbone,
    Loss,
    Out,
    Overrides,
    PageFile,
    Preset,
    Seed,
    Target,
    TruthFile,
    Users,
)
from contrarec.cli.analyse.pages import check_page, finish
from contrarec.cli.analyse.texts import (
    dro_text,
    false_negatives_text,
    geometry_text,
    hardness_text,
)
from contrarec.cli.console import Device, Json, Threads, output, use_threads
from contrarec.cli.inputs import ItemCol, TimeCol, UserCol, WeightCol
from contrarec.errors import ConfigError, DataError


def hardness(
    target: Target,
    k: Annotated[int, typer.Option("--k", metavar="N", help="Items in each list.")] = 10,
    who: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="FILE|ID,…",
            help="Users whose hardest negatives are listed; three of those looked at else.",
        ),
    ] = None,
    backbone: Backbone = None,
    loss: Loss = None,
    preset: Preset = None,
    overrides: Overrides = None,
    seed: Seed = None,
    out: Out = None,
    users: Users = None,
    page: PageFile = None,
    device: Device = "auto",
    threads: Threads = None,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    weight_col: WeightCol = None,
    as_json: Json = False,
) -> None:
    """How much each negative counts: per popularity group, over training, and which ones most.

    A run that was trained without the analysis gives its final state alone.
    """
    with output(as_json) as console:
        check_page(page)
        from contrarec.audit.hardness import DEFINITIONS, list_items, list_pairs, measure_hardness
        from contrarec.audit.trace import USERS, candidates

        if k < 1:
            raise ConfigError(f"--k must be at least 1, got {k}.")
        wanted = Wanted(
            target=target,
            chosen=chosen_settings(backbone, loss, preset, overrides, seed),
            out=out,
            device=device,
            threads=threads,
            columns=(user_col, item_col, time_col, weight_col),
            users=users,
        )
        source, _, _ = open_source(console, wanted)
        history = source.history
        pairs = candidates(history, limit=users or USERS, seed=source.settings.seed)
        found = measure_hardness(source.view, pairs, history.item_counts)
        listed = pairs.users[:3]
        if who is not None:
            listed = known_users(who, source)
        result = {
            "analysis": "hardness",
            **source.to_dict(),
            "state": found.to_dict(),
            "items": list_items(found, history, k),
            "pairs": list_pairs(source.view, listed, history, k),
            "trace": trace_of(source, "hardness"),
            "definitions": DEFINITIONS,
        }
        finish(console, result, page, hardness_text)


def false_negatives(
    target: Target,
    truth: TruthFile = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="With RUN: its data, where they are no longer there."),
    ] = None,
    backbone: Backbone = None,
    loss: Loss = None,
    preset: Preset = None,
    overrides: Overrides = None,
    seed: Seed = None,
    out: Out = None,
    users: Users = None,
    page: PageFile = None,
    device: Device = "auto",
    threads: Threads = None,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    weight_col: WeightCol = None,
    as_json: Json = False,
) -> None:
    """Whether the adversary finds false negatives, beside chance and four controls.

    False negatives are known in a synthetic world (contrarec data synth) and, in part, where a
    test set has another exposure than the log: its positives.
    """
    with output(as_json) as console:
        check_page(page)
        from contrarec.audit.false_negatives import DEFINITIONS, find_false_negatives, verdict
        from contrarec.audit.trace import USERS, judged

        wanted = Wanted(
            target=target,
            chosen=chosen_settings(backbone, loss, preset, overrides, seed),
            out=out,
            device=device,
            threads=threads,
            columns=(user_col, item_col, time_col, weight_col),
            users=users,
            truth=truth,
        )
        source, dataset, known = open_source(console, wanted, data=data, needs_truth=True)
        if dataset is None or known is None:
            raise DataError(f"{target}: no false negatives are known.")
        number = source.settings.seed
        found = find_false_negatives(
            source.view,
            judged(known, limit=users or USERS, seed=number),
            known.false,
            source.history.item_counts,
            seed=number,
        ).to_dict(seed=number)
        result = {
            "analysis": "false-negatives",
            **source.to_dict(),
            "truth": known.source,
            "verdict": verdict(found),
            "state": found,
            "trace": trace_of(source, "false_negatives"),
            "definitions": DEFINITIONS,
        }
        finish(console, result, page, false_negatives_text)


def geometry(
    target: Target,
    backbone: Backbone = None,
    loss: Loss = None,
    preset: Preset = None,
    overrides: Overrides = None,
    seed: Seed = None,
    out: Out = None,
    page: PageFile = None,
    device: Device = "auto",
    threads: Threads = None,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    weight_col: WeightCol = None,
    as_json: Json = False,
) -> None:
    """Alignment and uniformity of the vectors, over training, and the items in a plane."""
    with output(as_json) as console:
        check_page(page)
        from contrarec.audit.geometry import DEFINITIONS, main_plane, measure_geometry, plane_rows

        wanted = Wanted(
            target=target,
            chosen=chosen_settings(backbone, loss, preset, overrides, seed),
            out=out,
            device=device,
            threads=threads,
            columns=(user_col, item_col, time_col, weight_col),
            users=None,
        )
        source, _, _ = open_source(console, wanted)
        number, history = source.settings.seed, source.history
        plane = main_plane(source.view, history)
        result = {
            "analysis": "geometry",
            **source.to_dict(),
            "state": measure_geometry(source.view, history, seed=number),
            "plane": {
                "explained": plane.explained,
                "popularity_correlation": plane.correlation,
                "items": plane_rows(plane, history, seed=number),
            },
            "trace": trace_of(source, "geometry"),
            "definitions": DEFINITIONS,
        }
        finish(console, result, page, geometry_text)


def dro(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a trained run.")],
    etas: Annotated[
        str | None, typer.Option(metavar="X,…", help="Radii of the KL ball, in nats.")
    ] = None,
    n_neg: Annotated[
        int | None, typer.Option(metavar="N", help="Negatives a row; those of the run else.")
    ] = None,
    rows: Annotated[int, typer.Option(metavar="N", help="Rows, one per user, drawn.")] = 2000,
    page: PageFile = None,
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """The worst loss within a KL ball, over its radius, beside the adversary's own."""
    with output(as_json) as console:
        check_page(page)
        from contrarec.audit.dro import DEFINITIONS, ETAS, measure_dro
        from contrarec.audit.source import open_run

        radii = ETAS if etas is None else _numbers(etas)
        for name, value in {"--n-neg": n_neg, "--rows": rows}.items():
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}.")
        use_threads(threads)
        source = open_run(run, device=device)
        found = measure_dro(
            source.view,
            source.history,
            n_neg=n_neg or source.settings.training.n_neg,
            etas=radii,
            n_rows=rows,
            seed=source.settings.seed,
        )
        result = {
            "analysis": "dro",
            **source.to_dict(),
            "state": found,
            "definitions": DEFINITIONS,
        }
        finish(console, result, page, dro_text)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--etas must be numbers between commas, got {text!r}.") from None
