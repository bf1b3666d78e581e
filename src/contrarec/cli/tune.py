"""`contrarec tune`: the settings of several methods, searched with the same budget for each."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrarec.cli.compare import names_of
from contrarec.cli.console import Device, Json, Output, Threads, output, table, use_threads
from contrarec.cli.inputs import (
    Data,
    ItemCol,
    TimeCol,
    UserCol,
    WeightCol,
    file_name,
    load_data,
    with_valid,
)
from contrarec.cli.workers import RayAddress, Workers, launch_of

if TYPE_CHECKING:
    from contrarec.data.dataset import Dataset
    from contrarec.distributed.cluster import Launch
    from contrarec.tuning import Trial, Tuning
    from contrarec.tuning.trials import Crew


def tune(
    data: Data,
    methods: Annotated[
        str, typer.Option(metavar="NAME,…", help="Losses by name, patterns, or all.")
    ],
    backbones: Annotated[
        str,
        typer.Option(
            metavar="NAME,…", help="Backbones; each method is tuned on those that it goes with."
        ),
    ] = "mf",
    trials: Annotated[
        int, typer.Option(metavar="N", help="Trials for each method on each backbone.")
    ] = 30,
    seed: Annotated[
        int,
        typer.Option(metavar="S", help="Base of all randomness, of the search and of training."),
    ] = 0,
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Published settings to start from, or a preset file."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting for all trials, or for those of one method or backbone; it is not "
            "searched. May be given several times.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of the trials and the preset; runs/tune-DATA if not given."
        ),
    ] = None,
    workers: Workers = None,
    ray_address: RayAddress = None,
    device: Device = "auto",
    threads: Threads = None,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    weight_col: WeightCol = None,
    as_json: Json = False,
) -> None:
    """Search the settings of each method, by validation alone, with as many trials for each.

    The test sets are not looked at. The winners are written to preset.toml, which train, compare
    and tune take as --preset FILE. Can be stopped and started again. With --workers N, N methods
    are tuned at a time, each as without. Needs the extra tune.
    """
    with output(as_json) as console:
        chosen = names_of(methods, "--methods"), names_of(backbones, "--backbones")
        from contrarec.config import parse_override
        from contrarec.tuning import tune as search
        from contrarec.tuning.run import PRESET

        dataset = with_valid(load_data(data, user_col, item_col, time_col, weight_col))
        folder = out or Path("runs") / f"tune-{file_name(dataset.name)}"
        use_threads(threads)
        launch = launch_of(workers, ray_address, device, threads)
        try:
            tuning = search(
                dataset,
                *chosen,
                trials=trials,
                seed=seed,
                out=folder,
                preset=preset,
                overrides=dict(map(parse_override, overrides or [])),
                device=device,
                on_trial=lambda trial: _tell(console, trial),
                crew=_crew(launch) if launch else None,
            )
        except KeyboardInterrupt:
            console.say("interrupted; the same command goes on with the trial under way.")
            raise
        result = {"out": folder, "preset_file": folder / PRESET, **tuning.to_dict()}
        console.finish(result, lambda: f"{_text(tuning)}\n\nPreset: {folder / PRESET}")


def _crew(launch: "Launch") -> Callable[["Dataset"], AbstractContextManager["Crew"]]:
    from contrarec.distributed.searching import search_crew

    return partial(search_crew, launch=launch)


def _tell(console: Output, trial: "Trial") -> None:
    value = "" if trial.valid is None else f"best {trial.monitor} {trial.valid:.4f}, "
    place = f"[{trial.number}/{trial.total}] {trial.backbone} {trial.method}"
    console.say(f"{place}: {value}{trial.outcome}")


def _text(tuning: "Tuning") -> str:
    rows: list[list[Any]] = [
        ["backbone", "method", f"valid {tuning.monitor}", "trial", "pruned", "seconds", "settings"]
    ]
    for found in tuning.findings:
        values = ", ".join(
            f"{key.partition('.')[2]} {value:.3g}"
            if isinstance(value, float)
            else f"{key.partition('.')[2]} {value}"
            for key, value in found.values.items()
        )
        row = [found.backbone, found.method, found.valid, found.trial, found.pruned]
        rows.append([*row, round(found.seconds), values])
    return table(rows)
