"""`contrarec data clean`: from a raw log to one that is worth splitting."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrarec.cli.console import Json, output
from contrarec.cli.data.shared import LogFile, require_new
from contrarec.cli.inputs import ItemCol, TimeCol, UserCol, WeightCol
from contrarec.errors import ConfigError

if TYPE_CHECKING:
    from contrarec.data.cleaning import Step

HELP = """Clean a log: bots, sessions, repetitions, low ratings, rare users and items.

\b
What is asked for is done in this order:
  --max-rate 100/1h     users with more than 100 events in any hour go: bots
  --max-per-user 1000   users with more than 1000 events go; with --keep-latest, they keep
                        their latest 1000
  --sessions 30m        what a user repeats within a session counts once
  --repeats last        one event a pair, with the last weight; or count, log_count, sum, mean,
                        max, first, none
  --min-weight 4        only events of this weight or more
  --k-core 5            users with fewer than 5 items and items with fewer than 5 users go, until
                        there are none; 5,10: 5 items a user, 10 users an item
  --unweighted          the weights are forgotten

Lengths of time are numbers in the units of the log's times, or 90s, 30m, 12h, 7d.

\b
Example:
  contrarec data clean ratings.csv --weight-col rating --min-weight 4 --k-core 5 \\
      --max-per-user 1000 --unweighted --out log.parquet
"""


def clean(
    log: Annotated[str, typer.Argument(metavar="LOG", help="A log file.")],
    out: LogFile,
    max_rate: Annotated[
        str | None, typer.Option(metavar="N/TIME", help="Events of a user in any such time.")
    ] = None,
    max_per_user: Annotated[
        int | None, typer.Option(metavar="N", help="Events of a user in all.")
    ] = None,
    keep_latest: Annotated[
        bool, typer.Option("--keep-latest", help="With --max-per-user: keep the latest N.")
    ] = False,
    sessions: Annotated[
        str | None, typer.Option(metavar="TIME", help="A longer gap ends a session.")
    ] = None,
    repeats: Annotated[
        str | None, typer.Option(metavar="HOW", help="Make one event of a pair's events.")
    ] = None,
    min_weight: Annotated[
        float | None, typer.Option(metavar="X", help="The lowest weight that stays.")
    ] = None,
    k_core: Annotated[
        str | None, typer.Option(metavar="K", help="Items a user and users an item at least.")
    ] = None,
    unweighted: Annotated[bool, typer.Option("--unweighted", help="Forget the weights.")] = False,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    weight_col: WeightCol = None,
    as_json: Json = False,
) -> None:
    """Clean a log."""
    with output(as_json) as console:
        from contrarec.data import cleaning
        from contrarec.data.parquet import read_steps, write_log
        from contrarec.data.readers import read_log
        from contrarec.files import replacing

        require_new(out)
        if keep_latest and max_per_user is None:
            raise ConfigError("--keep-latest needs --max-per-user.")
        steps: list[Step] = []
        if max_rate is not None:
            steps.append(_max_rate(max_rate))
        if max_per_user is not None:
            excess: Any = "latest" if keep_latest else "remove"
            steps.append(cleaning.MaxPerUser(max_per_user, excess))
        if sessions is not None:
            steps.append(cleaning.Sessions(_duration(sessions)))
        if repeats is not None:
            how: Any = repeats
            steps.append(cleaning.Repeats(how))
        if min_weight is not None:
            steps.append(cleaning.MinWeight(min_weight))
        if k_core is not None:
            steps.append(_k_core(k_core))
        if unweighted:
            steps.append(cleaning.Unweighted())
        if not steps:
            raise ConfigError("nothing to do: give --min-weight, --k-core or another step.")
        read = read_log(log, user=user_col, item=item_col, time=time_col, weight=weight_col)
        cleaned, accounts = cleaning.clean_log(read, steps)
        with replacing(out) as temporary:
            write_log(cleaned, temporary, (*read_steps(Path(log)), *accounts))
        for account in accounts:
            console.note(account)
        sizes = {
            "events": cleaned.height,
            "users": cleaned["user"].n_unique(),
            "items": cleaned["item"].n_unique(),
        }
        text = ", ".join(f"{count} {what}" for what, count in sizes.items())
        console.finish({"out": out, "path": log, **sizes}, lambda: f"{out}: {text}")


def _max_rate(text: str) -> "Step":
    from contrarec.data.cleaning import MaxRate

    n, slash, window = text.partition("/")
    if not (slash and n.isdecimal()):
        raise ConfigError(f"--max-rate must be N/TIME such as 100/1h, got {text!r}.")
    return MaxRate(int(n), _duration(window))


def _k_core(text: str) -> "Step":
    from contrarec.data.cleaning import KCore

    numbers = text.split(",")
    if len(numbers) > 2 or not all(number.isdecimal() for number in numbers):
        raise ConfigError(f"--k-core must be K or K,K such as 5 or 5,10, got {text!r}.")
    return KCore(int(numbers[0]), int(numbers[-1]))


def _duration(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
