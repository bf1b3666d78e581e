"""`contrarec data`: get data, clean them, look at them, split them, or make some up."""

import typer

from contrarec.cli.data.check import check
from contrarec.cli.data.clean import HELP as CLEAN_HELP
from contrarec.cli.data.clean import clean
from contrarec.cli.data.describe import describe
from contrarec.cli.data.fetch import fetch
from contrarec.cli.data.from_sql import from_sql
from contrarec.cli.data.split import SPLIT_HELP, split
from contrarec.cli.data.synth import synth

app = typer.Typer(
    help="Fetch, clean, describe, check and split data, or make some up.",
    rich_markup_mode=None,
)
app.command()(fetch)
app.command()(from_sql)
app.command(help=CLEAN_HELP)(clean)
app.command()(describe)
app.command()(check)
app.command(help=SPLIT_HELP)(split)
app.command()(synth)
