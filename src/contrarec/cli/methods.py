"""`contrarec methods`: every method that can be trained and compared, in one table."""

from dataclasses import asdict
from typing import Any

from contrarec.cli.console import Json, output, table


def methods(as_json: Json = False) -> None:
    """List every method: its kind, what it needs, the backbones it goes with, its source.

    A name goes to train --loss, to compare --methods and to tune --methods.
    """
    with output(as_json) as console:
        from contrarec.methods import method_table

        rows = [asdict(method) for method in method_table().values()]
        console.finish({"methods": rows}, lambda: _text(rows))


def _text(rows: list[dict[str, Any]]) -> str:
    columns = ("name", "kind", "backbones", "needs", "summary", "source")
    cells = [row | {"backbones": ", ".join(row["backbones"])} for row in rows]
    return table([columns, *([row[column] for column in columns] for row in cells)])
