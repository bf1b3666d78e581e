"""`contrarec data from-sql`: from a database to a log file."""

from typing import Annotated

import typer

from contrarec.cli.console import Json, output
from contrarec.cli.data.shared import LogFile, require_new
from contrarec.cli.inputs import ItemCol, TimeCol, UserCol, WeightCol


def from_sql(
    uri: Annotated[
        str,
        typer.Argument(
            metavar="URI", help="postgresql://user@host:port/database, or sqlite:///file."
        ),
    ],
    query: Annotated[
        str, typer.Option(metavar="SQL", help="A statement that returns a row per interaction.")
    ],
    out: LogFile,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    weight_col: WeightCol = None,
    as_json: Json = False,
) -> None:
    """Write the log that a query returns to a file.

    A password is best left out of URI, where others see it: PostgreSQL takes one from PGPASSWORD
    or ~/.pgpass. No password is written or shown.
    """
    with output(as_json) as console:
        from contrarec.data.addresses import parse_address
        from contrarec.data.columns import ColumnNames
        from contrarec.data.sql import write_query
        from contrarec.files import replacing

        require_new(out)
        address = parse_address(uri)
        columns = ColumnNames(user=user_col, item=item_col, time=time_col, weight=weight_col)
        with replacing(out) as temporary:
            n_events = write_query(address, query, temporary, columns)
        result = {"out": out, "path": address.shown, "events": n_events}
        console.finish(result, lambda: f"{out}: {n_events} events from {address.shown}")
