"""`contrarec audit`: what quality is lost when popularity shifts, by which method least."""

import shlex
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrarec.cli.compare import names_of, seeds_of, watch
from contrarec.cli.console import Device, Json, Threads, output, table, use_threads
from contrarec.cli.inputs import (
    ItemCol,
    TimeCol,
    UserCol,
    WeightCol,
    file_name,
    load_data,
    with_valid,
)
from contrarec.cli.report import NAME, check_report
from contrarec.errors import ConfigError, DataError

if TYPE_CHECKING:
    from contrarec.audit.config import AuditConfig
    from contrarec.audit.result import Audit
    from contrarec.data.dataset import Dataset


def audit(
    targets: Annotated[
        list[Path],
        typer.Argument(
            metavar="LOG|RUN…",
            help="A log or a folder of split files, to train on; or the folders of trained runs.",
        ),
    ],
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,…",
            help="Losses and baselines to train; infonce,advinfonce,bpr,popularity if not given.",
        ),
    ] = None,
    backbones: Annotated[
        str | None, typer.Option(metavar="NAME,…", help="Backbones; mf if not given.")
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(metavar="N", help="How many seeds, from 0 (1 if not given); or 101,102."),
    ] = None,
    shifts: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,…",
            help="Test sets taken out of a log: gammas, uniform, time. 200,10,2,uniform if not "
            "given, and time if the log has times.",
        ),
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(metavar="F", help="Share of the log in each set; 0.05, more of a small log."),
    ] = None,
    k: Annotated[int, typer.Option("--k", metavar="K", help="Cutoff of every figure.")] = 20,
    propensities: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|COLUMN",
            help="A file with item_id[,user_id],propensity, or a column of the log; estimated from "
            "popularity if not given.",
        ),
    ] = None,
    gamma: Annotated[
        float | None, typer.Option(metavar="G", help="Gamma of the estimate; 1.5.")
    ] = None,
    clip: Annotated[
        float | None, typer.Option(metavar="P", help="Smaller propensities count as this; 0.01.")
    ] = None,
    weighed: Annotated[
        str | None,
        typer.Option(
            metavar="SET,…",
            help="Sets that are a random part of the log, to weigh by propensities; the "
            "in-distribution one if not given.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Published settings to train with, or a preset file."),
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
        typer.Option(metavar="DIR", help="Folder of runs and result; runs/audit-NAME else."),
    ] = None,
    report: Annotated[
        bool | None,
        typer.Option(
            "--report/--no-report",
            help="Write report.html; if not given, where the extra 'report' is installed.",
        ),
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    weight_col: WeightCol = None,
    as_json: Json = False,
) -> None:
    """Audit a log or trained runs: who loses least when popularity shifts, and at what cost.

    A log is split into an in-distribution test set and shifted ones, and the methods are trained on
    what is left; a folder that has test sets is audited on those as they are, and so are runs.
    Measures quality per set and popularity group with intervals and tests, what the lists are made
    of, and what the metrics would be without the log's bias (IPS, SNIPS). The result is audit.json
    and report.html. Can be stopped and started again.
    """
    with output(as_json) as console:
        from contrarec.config import parse_override

        are_runs = _are_runs(targets)
        training = {
            "--methods": methods, "--backbones": backbones, "--seeds": seeds, "--preset": preset,
            "--set": overrides, "--shifts": shifts, "--share": share,
        }  # fmt: skip
        if are_runs:
            for option, value in training.items():
                if value is not None:
                    raise ConfigError(f"{option} is for training, and runs are trained already.")
        from contrarec.audit.run import audit_log, audit_runs

        column = _column(propensities)
        config = _config(
            k=k,
            shifts=None if shifts is None else names_of(shifts, "--shifts"),
            share=share,
            propensities=None if propensities is None or column else Path(propensities),
            column=column,
            gamma=gamma,
            clip=clip,
            weighed=None if weighed is None else names_of(weighed, "--weighed"),
        )
        if column and weight_col:
            raise ConfigError("--weight-col and a column of propensities exclude one another.")
        columns = (user_col, item_col, time_col, column or weight_col)
        data = _data(targets, are_runs, columns)
        folder = out or Path("runs") / f"audit-{file_name(data.name)}"
        use_threads(threads)
        writer = _writer(report)
        asked: dict[str, Any] = {}
        if methods is not None:
            asked["methods"] = names_of(methods, "--methods")
        if backbones is not None:
            asked["backbones"] = names_of(backbones, "--backbones")
        if seeds is not None:
            asked["seeds"] = seeds_of(seeds)
        try:
            found = (
                audit_runs(targets, data, config=config, device=device)
                if are_runs
                else audit_log(
                    data,
                    **asked,
                    out=folder,
                    config=config,
                    preset=preset,
                    overrides=dict(map(parse_override, overrides or [])),
                    device=device,
                    watch=partial(watch, console),
                )
            )
        except KeyboardInterrupt:
            console.say("interrupted and saved; the same command goes on from here.")
            raise
        for note in found.notes:
            console.note(note)
        found.save(folder)
        if writer:
            writer(found, folder / NAME, [shlex.join(["contrarec", *sys.argv[1:]])])
        console.finish(
            {"out": folder, "report": folder / NAME if writer else None, **found.to_dict()},
            lambda: f"{_text(found)}\n\nResult: {folder}",
        )


def _are_runs(targets: list[Path]) -> bool:
    """Tell runs from data by what is there."""
    from contrarec import runs

    for path in targets:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder.")
    are_runs = [runs.is_started(path) for path in targets]
    if any(are_runs) and not all(are_runs):
        raise ConfigError(f"{targets[are_runs.index(False)]}: is not a run, and the others are.")
    if not any(are_runs) and len(targets) > 1:
        raise ConfigError(f"one log at a time, got {', '.join(map(str, targets))}.")
    return all(are_runs)


def _column(propensities: str | None) -> str | None:
    """Return the column that is meant; None for a file."""
    if propensities is None or Path(propensities).is_file():
        return None
    if Path(propensities).suffix.lower() in (".csv", ".tsv", ".parquet"):
        raise DataError(f"{propensities}: no such file.")
    return propensities


def _config(**values: Any) -> "AuditConfig":
    from contrarec.audit.config import AuditConfig

    return AuditConfig(**{key: value for key, value in values.items() if value is not None})


def _data(targets: list[Path], are_runs: bool, columns: tuple[str | None, ...]) -> "Dataset":
    if not are_runs:
        return load_data(str(targets[0]), *columns)
    from contrarec import runs

    known = runs.read_settings(targets[0])[1]
    if not known.path:
        raise DataError(f"{targets[0]}: was not trained on files, its test sets are not known.")
    data = with_valid(load_data(known.path, *columns))
    if data.fingerprint() != known.fingerprint:
        raise DataError(f"{known.path}: is no longer what {targets[0]} was trained on.")
    return data


def _writer(report: bool | None) -> Any:
    """Return what writes the report; None if none is wanted, or the extra is not there."""
    if report is False:
        return None
    if report:
        check_report()
    elif find_spec("vl_convert") is None:
        return None
    from contrarec.report.audit import write_report

    return write_report


def _text(found: "Audit") -> str:
    metric, places = found.headline[0], [info.name for info in found.sets]
    quality: list[list[Any]] = [["method", *places]]
    quality += [
        [method.label, *(method.metrics[name][metric].mean for name in places)]
        for method in found.methods
    ]
    head = found.shifted[-1] if found.shifted else places[0]
    lists: list[list[Any]] = [["method", *found.methods[0].lists[head]]]
    lists += [
        [method.label, *(value.mean for value in method.lists[head].values())]
        for method in found.methods
    ]
    sets: list[list[Any]] = [["set", "users", "positives", "shift", "head share"]]
    sets += [[s.name, s.n_measured, s.n_positives, s.shift, s.head_share] for s in found.sets]
    parts = [
        "\n".join(f"- {sentence}" for sentence in found.summary),
        f"Sets (audited on {'them as they are' if found.kind != 'log' else 'parts of the log'})\n"
        f"{table(sets)}",
        f"{metric}\n{table(quality)}",
        f"Lists on {head}\n{table(lists)}",
    ]
    for weighing in found.weighing:
        rows: list[list[Any]] = [["method", "metric", "plain", "snips", "ips"]]
        for method in found.methods:
            for value in method.unbiased[weighing.set]:
                ips = None if value.ips is None else value.ips[0]
                rows.append([method.label, value.metric, value.plain[0], value.snips[0], ips])
        parts.append(
            f"Weighed by 1/propensity on {weighing.set}: {weighing.source}, clipped at "
            f"{weighing.clip:g} ({100 * weighing.clipped:.1f} % of the positives); worth "
            f"{weighing.effective:.0f} of {weighing.positives} positives\n{table(rows)}"
        )
    return "\n\n".join(parts)
