"""`contrarec data`: look at data, check them, split them, or make some up."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrarec.cli.console import Json, Output, output, table
from contrarec.cli.inputs import Data, ItemCol, TimeCol, UserCol, WeightCol, load_data
from contrarec.errors import ConfigError

if TYPE_CHECKING:
    from contrarec.data.dataset import Dataset

app = typer.Typer(
    help="Describe, check and split data, or make some up.",
    rich_markup_mode=None,
)
SPLIT_HELP = """Split a log into train, valid and test sets.

Test sets are taken out first, in order, then the validation set; the rest is train.

\b
HOW is one of
  random:0.1        a random tenth of the interactions
  last:1            the last interaction of every user, by time
  temporal:0.1      the latest tenth of all interactions
  temporal:at=T     everything from time T on
  popularity:200    a tenth whose item popularity is shifted, the paper's gamma 200
  popularity:1      a tenth in which every popularity group has an equal share
with more settings after commas: popularity:10,fraction=0.05,n_groups=50

\b
Example:
  contrarec data split log.csv --out parts --valid random:0.1 \\
      --test id=random:0.1 --test shifted=popularity:200
"""

Folder = Annotated[Path, typer.Option(metavar="DIR", help="The folder to write, a new one.")]


@app.command()
def describe(
    data: Data,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    weight_col: WeightCol = None,
    as_json: Json = False,
) -> None:
    """Count what each part holds and how far its popularity shifts."""
    with output(as_json) as console:
        loaded = load_data(data, user_col, item_col, time_col, weight_col)
        _finish(console, loaded, {"path": loaded.path})


@app.command()
def check(
    data: Data,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    weight_col: WeightCol = None,
    as_json: Json = False,
) -> None:
    """Look for what makes results wrong.

    Parts that overlap or are the same, empty ones, users without training history, repeated pairs.
    Exits with 2 if a finding is an error, with 0 if there are only warnings or none.
    """
    with output(as_json) as console:
        from contrarec.data.checks import check as look

        loaded = load_data(data, user_col, item_col, time_col, weight_col)
        findings = look(loaded)
        errors = sum(finding.level == "error" for finding in findings)
        result = {"data": loaded.path, "errors": errors, "findings": [vars(f) for f in findings]}
        rows: list[list[Any]] = [["level", "where", "count", "what"]]
        rows += [[f.level, f.where, f.count, f.what] for f in findings]
        console.finish(result, lambda: table(rows) if findings else "Nothing found.")
        if errors:
            raise typer.Exit(2)


@app.command(help=SPLIT_HELP)
def split(
    log: Annotated[str, typer.Argument(metavar="LOG", help="A log file, or a folder of parts.")],
    out: Folder,
    valid: Annotated[
        str | None, typer.Option(metavar="HOW", help="How the validation set is taken out.")
    ] = None,
    test: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=HOW", help="How a test set is taken out, as often as needed."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Decides what is random.")] = 0,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    weight_col: WeightCol = None,
    as_json: Json = False,
) -> None:
    """Split a log into parts."""
    with output(as_json) as console:
        from contrarec.cli.splits import parse_split

        tests = {}
        for text in test or []:
            name, equals, how = text.partition("=")
            if not (name and equals and how):
                raise ConfigError(f"--test must be NAME=HOW, got {text!r}.")
            if name in tests:
                raise ConfigError(f"--test: {name!r} is given twice.")
            tests[name] = parse_split(how, f"--test {name}")
        held_out = None if valid is None else parse_split(valid, "--valid")
        if not tests and held_out is None:
            raise ConfigError("nothing to split off: give --valid HOW or --test NAME=HOW.")
        loaded = load_data(log, user_col, item_col, time_col, weight_col)
        parts = loaded.split(valid=held_out, tests=tests, seed=seed)
        parts.save(out)
        _finish(console, parts, {"out": out, "path": loaded.path})


@app.command()
def synth(
    out: Folder,
    users: Annotated[
        int | None, typer.Option(metavar="N", help="Users; 1500 if not given.")
    ] = None,
    items: Annotated[int | None, typer.Option(metavar="N", help="Items; 600 if not given.")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Another setting, as often as needed: n_preferred, exposure, bias, experiment, "
            "gamma, held_out, dim.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Decides everything random.")] = 0,
    as_json: Json = False,
) -> None:
    """Make up a world with known preferences.

    Its log is biased by exposure. Test sets: id as the log, uniform with uniform exposure, shifted
    with less bias. false_negatives.parquet has every pair that is liked and not in the log.
    """
    with output(as_json) as console:
        from contrarec.config import build, parse_override
        from contrarec.data.folder import write_false_negatives
        from contrarec.data.synthetic import SyntheticConfig, synthesize

        sizes = {"n_users": users, "n_items": items}
        values = {key: value for key, value in sizes.items() if value is not None}
        values |= dict(map(parse_override, overrides or []))
        config = build(SyntheticConfig, values, where="synth")
        world = synthesize(config, seed=seed)
        world.dataset.save(out)
        write_false_negatives(out, world.false_negatives)
        about = {
            "out": out,
            "seed": seed,
            "preferred": world.preferred.nnz,
            "false_negatives": world.false_negatives.nnz,
        }
        _finish(console, world.dataset, about)


def _finish(console: Output, data: "Dataset", about: dict[str, Any]) -> None:
    report = data.describe()
    for note in report.pop("notes"):
        console.note(note)
    console.finish({**about, **report}, lambda: _text(report))


def _text(report: dict[str, Any]) -> str:
    keys = list(dict.fromkeys(key for part in report["parts"].values() for key in part))
    rows: list[list[Any]] = [["part", *(key.replace("_", " ") for key in keys)]]
    rows += [[name, *(part.get(key) for key in keys)] for name, part in report["parts"].items()]
    return (
        f"{report['name']}: {report['users']} users, {report['items']} items, of which "
        f"{report['candidates']} may be ranked\n{table(rows)}\n"
        f"popularity kl: {report['popularity_kl']}"
    )
