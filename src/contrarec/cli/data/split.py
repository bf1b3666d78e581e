"""`contrarec data split`: from a log to train, valid and test sets."""

from typing import Annotated

import typer

from contrarec.cli.console import Json, output
from contrarec.cli.data.shared import Folder, Log, report
from contrarec.cli.inputs import ItemCol, TimeCol, UserCol, WeightCol, load_data
from contrarec.errors import ConfigError

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


def split(
    log: Log,
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
        report(console, parts, {"out": out, "path": loaded.path})
