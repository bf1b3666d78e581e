"""Options that several analyses share."""

from pathlib import Path
from typing import Annotated

import typer

Target = Annotated[
    str,
    typer.Argument(
        metavar="RUN|DATA",
        help="A finished run; or data, to train on with the analysis attached.",
    ),
]
Backbone = Annotated[str | None, typer.Option(metavar="NAME", help="With DATA: mf, lightgcn, ….")]
Loss = Annotated[
    str | None, typer.Option(metavar="NAME", help="With DATA: advinfonce if not given.")
]
Preset = Annotated[
    str | None, typer.Option(metavar="NAME", help="With DATA: published settings, or a file.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="With DATA: a setting, as often as needed."),
]
Seed = Annotated[int | None, typer.Option(metavar="N", help="With DATA: of the training; 0 else.")]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="With DATA: the run's folder, where it goes on if it was stopped; "
        "runs/analyse-DATA-BACKBONE-LOSS-SEED if not given.",
    ),
]
Users = Annotated[
    int | None,
    typer.Option("--users", metavar="N", help="Users to look at, a seeded sample; 3000 else."),
]
TruthFile = Annotated[
    Path | None,
    typer.Option(
        "--truth",
        metavar="FILE",
        help="Pairs that are liked although the log does not have them; the file "
        "false_negatives.* of the data, or the positives of the test sets, if not given.",
    ),
]
PageFile = Annotated[
    Path | None, typer.Option("--page", metavar="FILE", help="Also write a page, .html.")
]
DataArgument = Annotated[
    str, typer.Argument(metavar="DATA", help="A folder of split files with a test set.")
]
Backbones = Annotated[str, typer.Option(metavar="NAME,…", help="Backbones.")]
Seeds = Annotated[
    str, typer.Option(metavar="N", help="How many seeds, from 0; or the seeds: 101,102.")
]
Only = Annotated[
    str | None, typer.Option(metavar="NAME,…", help="Some of the variants; all if not given.")
]
StudyPreset = Annotated[
    str | None, typer.Option(metavar="NAME", help="Published settings, or a preset file.")
]
StudySet = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting for all, or of one variant or method: advinfonce.adv_lr=1e-3.",
    ),
]
StudyOut = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of runs and tables; runs/STUDY-DATA if not given."),
]
