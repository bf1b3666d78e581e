"""Studies: variants of AdvInfoNCE, trained, compared and tested."""

from functools import partial
from pathlib import Path

from contrarec.cli.analyse.options import (
    Backbones,
    DataArgument,
    Only,
    PageFile,
    Seeds,
    StudyOut,
    StudyPreset,
    StudySet,
)
from contrarec.cli.analyse.pages import check_page, finish
from contrarec.cli.compare import names_of, seeds_of, watch
from contrarec.cli.console import Device, Json, Output, Threads, output, use_threads
from contrarec.cli.inputs import ItemCol, TimeCol, UserCol, WeightCol, file_name, load_data


def ablation(
    data: DataArgument,
    backbones: Backbones = "mf",
    seeds: Seeds = "3",
    only: Only = None,
    preset: StudyPreset = None,
    overrides: StudySet = None,
    out: StudyOut = None,
    page: PageFile = None,
    device: Device = "auto",
    threads: Threads = None,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    weight_col: WeightCol = None,
    as_json: Json = False,
) -> None:
    """Take AdvInfoNCE apart: its variants and controls, trained, compared and tested.

    Can be stopped and started again: a finished run is not run again, an unfinished one goes on.
    """
    with output(as_json) as console:
        columns = (user_col, item_col, time_col, weight_col)
        chosen = (data, backbones, seeds, only, preset, overrides, out)
        _study(console, "ablation", *chosen, page, device, threads, columns)


def intensity(
    data: DataArgument,
    backbones: Backbones = "mf",
    seeds: Seeds = "3",
    only: Only = None,
    preset: StudyPreset = None,
    overrides: StudySet = None,
    out: StudyOut = None,
    page: PageFile = None,
    device: Device = "auto",
    threads: Threads = None,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    weight_col: WeightCol = None,
    as_json: Json = False,
) -> None:
    """Weaker and stronger adversaries: passes, step size and enforced KL budget against quality.

    Can be stopped and started again, as the ablation.
    """
    with output(as_json) as console:
        columns = (user_col, item_col, time_col, weight_col)
        chosen = (data, backbones, seeds, only, preset, overrides, out)
        _study(console, "intensity", *chosen, page, device, threads, columns)


def _study(
    console: Output,
    name: str,
    data: str,
    backbones: str,
    seeds: str,
    only: str | None,
    preset: str | None,
    overrides: list[str] | None,
    out: Path | None,
    page: Path | None,
    device: str,
    threads: int | None,
    columns: tuple[str | None, ...],
) -> None:
    wanted = names_of(backbones, "--backbones"), seeds_of(seeds)
    check_page(page)
    from contrarec.audit.ablation import run_study
    from contrarec.audit.variants import choose_variants
    from contrarec.config import parse_override

    variants = choose_variants(name, None if only is None else names_of(only, "--only"))
    dataset = load_data(data, *columns)
    folder = out or Path("runs") / f"{name}-{file_name(dataset.name)}"
    use_threads(threads)
    for note in dataset.notes:
        console.note(note)
    try:
        study = run_study(
            name,
            dataset,
            variants,
            *wanted,
            out=folder,
            preset=preset,
            overrides=dict(map(parse_override, overrides or [])),
            device=device,
            watch=partial(watch, console),
        )
    except KeyboardInterrupt:
        console.say("interrupted and saved; the same command goes on from here.")
        raise
    study.save(folder)
    result = {"analysis": name, "out": folder, **study.to_dict()}
    text = f"{study.to_markdown()}\nRuns and tables: {folder}"
    finish(console, result, page, lambda _: text)
