"""`contrarec data check`: what makes results wrong."""

from typing import Any

import typer

from contrarec.cli.console import Json, output, table
from contrarec.cli.inputs import Data, ItemCol, TimeCol, UserCol, WeightCol, load_data


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
