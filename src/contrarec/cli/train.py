"""`contrarec train`: from a data set to a run folder."""

import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

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
from contrarec.cli.report import WithReport, check_report, report_run
from contrarec.cli.workers import ItemTables, RayAddress, Workers, launch_of
from contrarec.errors import ConfigError

if TYPE_CHECKING:
    from contrarec.data.dataset import Dataset
    from contrarec.distributed.parquet_parts import PartedData
    from contrarec.settings import Settings

_ENDS = {
    "patience": "stopped when validation improved no more",
    "epochs": "all epochs done",
    "fitted": "fitted, without epochs",
    "interrupted": "interrupted",
}


def train(
    data: Data,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="mf (the default), lightgcn, lightgcn++, or alpharec with --set features=FILE; "
            "none for a baseline.",
        ),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="advinfonce (the default), infonce, bpr, …; or a baseline: popularity, itemknn, "
            "ease, als.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Published settings: coat, kuairec, tencent, yahoo-r3; or a preset file (.toml).",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings from a TOML file.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A single setting, as often as needed: --set tau=0.1"
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Base of all randomness; 0 if not given.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="The run's folder; runs/DATA-BACKBONE-LOSS-SEED if not given."
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with the run in that folder, as if it had never stopped."
        ),
    ] = False,
    with_report: WithReport = False,
    track: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Log each epoch to tensorboard or mlflow, too."),
    ] = None,
    track_to: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="A folder for TensorBoard (RUN/tensorboard if not given), an address for MLflow "
            "(what its environment says).",
        ),
    ] = None,
    workers: Workers = None,
    ray_address: RayAddress = None,
    tables: ItemTables = None,
    device: Device = "auto",
    threads: Threads = None,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    weight_col: WeightCol = None,
    as_json: Json = False,
) -> None:
    """Train a model until validation improves no more.

    The run's folder keeps the best weights, the settings and the course of training; the other
    commands read it. Settings come from defaults, --preset, --config and --set, the later ones
    winning. Of a single log file a random tenth becomes the validation set.
    """
    with output(as_json) as console:
        from contrarec import runs
        from contrarec.config import NO_BACKBONE
        from contrarec.recommender import Recommender
        from contrarec.settings import resolve_settings
        from contrarec.training.progress import progress
        from contrarec.training.tracking import check_tracking, tracking

        chosen: dict[str, Any] = {
            "backbone": backbone,
            "loss": loss,
            "preset": preset,
            "config": config,
            "seed": seed,
            "overrides": overrides or [],
        }
        if track_to and not track:
            raise ConfigError("--track-to says where --track logs to; that is missing.")
        launch = launch_of(workers, ray_address, device, threads, tables)
        settings = resolve_settings(**chosen)
        recommender = Recommender.from_settings(settings, device="cpu" if workers else device)
        n_threads = use_threads(threads)
        if track:
            check_tracking(track, track_to)
        if with_report:
            check_report()
        columns = (user_col, item_col, time_col, weight_col)
        parted = None if workers is None else _parted(data, columns, with_report)
        dataset = parted or with_valid(load_data(data, *columns))
        notes, has_valid = _known(dataset)
        folder = out or Path("runs") / _default_name(dataset.name, settings)
        started = runs.is_started(folder)
        if started and not resume:
            raise ConfigError(
                f"{folder}: already holds a run; go on with it (--resume) or choose another "
                "folder (--out)."
            )
        if resume and started and all(value in (None, []) for value in chosen.values()):
            settings, _ = runs.read_settings(folder)
            recommender = Recommender.from_settings(settings, device="cpu" if workers else device)
        elif resume and not started:
            console.say(f"{folder}: no run to resume there, so this is its start.")

        for note in notes:
            console.note(note)
        is_baseline = settings.backbone.name == NO_BACKBONE
        if not has_valid and not is_baseline:
            epochs = settings.training.epochs
            console.note(
                f"no validation set: training goes on for all {epochs} epochs, nothing stops it "
                "early, and the last weights are kept"
            )
        what = f"training {settings.backbone.name} with {settings.loss_name}"
        if is_baseline:
            what = f"fitting {settings.loss_name}"
        where = f"on {recommender.device} with {n_threads} CPU threads"
        if workers is not None:
            where = f"by {workers} workers of {threads or 1} CPU threads"
        console.say(f"{what}, seed {settings.seed}, {where}, in {folder}")
        given = {
            "--workers": workers,
            "--ray-address": ray_address,
            "--tables": tables,
            "--device": None if device == "auto" else device,
            "--threads": threads,
            "--user-col": user_col,
            "--item-col": item_col,
            "--time-col": time_col,
            "--weight-col": weight_col,
        }
        again = f"go on with: {_resuming(data, folder, given)}"
        with ExitStack() as stack:
            hooks = stack.enter_context(progress(settings.training, folder=folder))
            if track:
                tracked = tracking(track, hooks, folder=folder, settings=settings, to=track_to)
                hooks = stack.enter_context(tracked)
            if launch is None:
                recommender.fit(cast("Dataset", dataset), out=folder, resume=resume, hooks=hooks)
                result = recommender.result | {"threads": n_threads}
            else:
                from contrarec.distributed.launch import train_together

                try:
                    result = train_together(
                        settings,
                        dataset,
                        folder,
                        launch,
                        resume=resume,
                        hooks=hooks,
                        note=console.say,
                    )
                except KeyboardInterrupt:
                    console.say(f"interrupted, not waiting for the workers to save; {again}")
                    raise
        if with_report and result["stopped"] != "interrupted":
            trained = recommender if workers is None else Recommender.load(folder, device=device)
            result["report"] = str(report_run(folder, trained, cast("Dataset", dataset)))
        console.finish(result, lambda: _text(result))
        if result["stopped"] == "interrupted":
            console.say(f"interrupted after {result['epochs']} epochs and saved; {again}")
            raise typer.Exit(INTERRUPTED)


def _resuming(data: str, folder: Path, given: dict[str, Any]) -> str:
    """Return the command that goes on with a run."""
    words = ["contrarec", "train", data, "--out", str(folder), "--resume"]
    words += [str(word) for pair in given.items() if pair[1] is not None for word in pair]
    return shlex.join(words)


def _parted(data: str, columns: tuple[str | None, ...], with_report: bool) -> "PartedData | None":
    """Find the parts of a data set that workers read by themselves; None if it is no such one."""
    from contrarec.distributed.parquet_parts import find_parted, is_parted

    if not is_parted(data):
        return None
    if with_report:
        raise ConfigError(
            f"{data}: the report needs all of the data in memory, which are in parts; make it "
            "afterwards: contrarec report RUN."
        )
    user, item, time, weight = columns
    return find_parted(data, {"user": user, "item": item, "time": time, "weight": weight})


def _known(data: "Dataset | PartedData") -> tuple[tuple[str, ...], bool]:
    """Return what is known before training: notes, and whether there is a validation set."""
    from contrarec.data.dataset import Dataset

    if isinstance(data, Dataset):
        return data.notes, data.valid is not None
    return (), "valid" in data.files


def _default_name(data_name: str, settings: "Settings") -> str:
    parts = (data_name, settings.backbone.name, settings.loss_name, str(settings.seed))
    return file_name("-".join(parts))


def _text(result: dict[str, Any]) -> str:
    course = f"{result['seconds']:.1f} s, {_ENDS[result['stopped']]}"
    if result["epochs"]:
        course = f"best epoch {result['best_epoch']} of {result['epochs']}, {course}"
    text = f"{result['run']}: {course}\n\n{metrics_table(result['metrics'])}"
    return f"{text}\n\nReport: {result['report']}" if "report" in result else text
