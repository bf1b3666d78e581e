"""`contrarec compare`: several losses on the same data, over seeds, in one table."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrarec.cli.console import Device, Json, Output, Threads, output, use_threads
from contrarec.cli.inputs import Data, ItemCol, TimeCol, UserCol, WeightCol, file_name, load_data
from contrarec.cli.report import WithReport, check_report, report_comparison
from contrarec.cli.workers import RayAddress, Workers, launch_of
from contrarec.errors import ConfigError, DataError

if TYPE_CHECKING:
    from contrarec.comparison import Job
    from contrarec.comparison.run import Trainer
    from contrarec.distributed.cluster import Launch
    from contrarec.training.loop import Hooks


def compare(
    data: Data,
    methods: Annotated[
        str,
        typer.Option(
            metavar="NAME,…",
            help="Losses and baselines by name, patterns such as 'infonce*', or all; the first is "
            "what the "
            "others are tested against.",
        ),
    ],
    backbones: Annotated[
        str,
        typer.Option(
            metavar="NAME,…", help="Backbones; each method is run on those that it goes with."
        ),
    ] = "mf",
    seeds: Annotated[
        str, typer.Option(metavar="N", help="How many seeds, from 0; or the seeds: 101,102.")
    ] = "5",
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Published settings to start from, or a preset file."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting for all runs, or for those of one method or backbone: "
            "advinfonce.adv_lr=1e-3. May be given several times.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of runs and table; runs/compare-DATA if not given."
        ),
    ] = None,
    with_report: WithReport = False,
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
    """Train each method with each backbone and seed, and compare them on every test set.

    Can be stopped and started again: a finished run is not run again, an unfinished one goes on.
    With --workers N, N runs are trained at a time, each as without; the folder must be one that all
    machines see.
    The table (comparison.md, .csv and .json) gives mean and standard deviation over seeds, tests
    every method against the first one, and says which methods no other beats significantly.
    """
    with output(as_json) as console:
        chosen = names_of(methods, "--methods"), names_of(backbones, "--backbones"), seeds_of(seeds)
        from contrarec.comparison import compare as run
        from contrarec.config import parse_override

        dataset = load_data(data, user_col, item_col, time_col, weight_col)
        if not dataset.tests:
            raise DataError(
                f"{data}: no test set to compare on; 'contrarec data split' takes one out of a log."
            )
        folder = out or Path("runs") / f"compare-{file_name(dataset.name)}"
        use_threads(threads)
        launch = launch_of(workers, ray_address, device, threads)
        if with_report:
            check_report()
        for note in dataset.notes:
            console.note(note)
        if dataset.valid is None:
            console.note(
                "no validation set: every run trains for all its epochs and keeps the last"
            )
        try:
            comparison = run(
                dataset,
                *chosen,
                out=folder,
                preset=preset,
                overrides=dict(map(parse_override, overrides or [])),
                device=device,
                watch=partial(watch, console),
                trainer=_trainer(console, launch) if launch else None,
            )
        except KeyboardInterrupt:
            console.say("interrupted and saved; the same command goes on from here.")
            raise
        comparison.save(folder)
        written = {"report": report_comparison(folder)} if with_report else {}
        console.finish(
            {"out": folder, **written, **comparison.to_dict()},
            lambda: f"{comparison.to_markdown()}\nRuns and table: {folder}",
        )


def _trainer(console: Output, launch: "Launch") -> "Trainer":
    """Have workers train the runs, and say where each has got to."""
    from contrarec.distributed.comparing import train_jobs_together

    def trainer(jobs: Sequence["Job"], *about: Any) -> Iterator["Job"]:
        for job in jobs:
            if job.finished:
                console.say(f"{_title(job)}: finished before, not run again.")
        return train_jobs_together(jobs, *about, launch=launch, on_end=partial(_tell, console))

    return trainer


def _tell(console: Output, job: "Job") -> None:
    from contrarec import runs

    result = runs.read_result(job.folder)
    course = f"best epoch {result['best_epoch']} of {result['epochs']}, {result['seconds']:.1f} s"
    console.say(f"{_title(job)}: {course}")


def _title(job: "Job") -> str:
    return f"[{job.number}/{job.total}] {job.backbone} {job.method} seed {job.seed}"


@contextmanager
def watch(console: Output, job: "Job") -> Iterator["Hooks | None"]:
    """Show the progress of one run."""
    from contrarec.training.progress import progress

    title = _title(job)
    if job.finished:
        console.say(f"{title}: finished before, not run again.")
        yield None
    else:
        config = job.settings.training
        with progress(config, folder=job.folder, title=title) as hooks:
            yield hooks


def names_of(text: str, option: str) -> tuple[str, ...]:
    """Take names between commas apart.

    Raises:
        ConfigError: one is empty.
    """
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ConfigError(f"{option} must be names between commas, got {text!r}.")
    return names


def seeds_of(text: str) -> tuple[int, ...]:
    """Return the seeds that `--seeds` stands for: a number of them, or themselves.

    Raises:
        ConfigError: it is neither.
    """
    parts = text.removesuffix(",").split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise ConfigError(
            f"--seeds must be a number of seeds, or seeds between commas, got {text!r}."
        )
    numbers = tuple(map(int, parts))
    return numbers if "," in text else tuple(range(numbers[0]))
