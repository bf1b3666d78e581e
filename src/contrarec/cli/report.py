"""`contrarec report`: a run or a comparison as one HTML file, with charts and tables."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contrarec.cli.console import Device, Json, Output, Threads, output, use_threads
from contrarec.cli.evaluate import data_of
from contrarec.cli.inputs import ItemCol, TimeCol, UserCol, WeightCol
from contrarec.errors import DataError

if TYPE_CHECKING:
    from contrarec.data.dataset import Dataset
    from contrarec.recommender import Recommender

NAME = "report.html"
"""What a report is called within the folder that it is about."""

WithReport = Annotated[
    bool,
    typer.Option("--report", help=f"Write {NAME} into the folder, as `contrarec report` does."),
]


def report(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="That of a trained run, or of a comparison."),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help=f"FOLDER/{NAME} if not given.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="What a run is evaluated on; the data that it was trained on if not given.",
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
    """Write one HTML file that opens in any browser, without a network.

    Of a run: its quality with intervals, by popularity, the course of training, the data, every
    setting. Of a comparison: all methods, their differences to the best, who leads, what they cost.
    Charts can be taken along as SVG, all data as CSV.
    """
    with output(as_json) as console:
        from contrarec import runs
        from contrarec.report import comparison

        check_report()
        is_run = runs.is_started(folder)
        if not is_run and not (folder / comparison.FILE).is_file():
            raise DataError(
                f"{folder}: neither a run nor a comparison (no config.toml, no {comparison.FILE})."
            )
        target = out or folder / NAME
        if not target.parent.is_dir():
            raise DataError(f"--out: no folder {str(target.parent)!r}.")
        if is_run:
            from contrarec.recommender import Recommender

            recommender = Recommender.load(folder, device=device)
            use_threads(threads)
            columns = (user_col, item_col, time_col, weight_col)
            report_run(folder, recommender, _data(console, folder, data, columns), target)
        else:
            report_comparison(folder, target)
        result = {
            "folder": folder,
            "kind": "run" if is_run else "comparison",
            "report": target,
            "bytes": target.stat().st_size,
        }
        console.finish(result, lambda: f"{target}: {result['bytes']:,} bytes")


def check_report() -> None:
    """Refuse a report that could not be written, before the work for it is done.

    Raises:
        BackendError: the charts' JavaScript is not installed.
    """
    from contrarec.report.page import load_vl_convert

    load_vl_convert()


def report_run(
    folder: Path, recommender: "Recommender", data: "Dataset | None", out: Path | None = None
) -> Path:
    """Write the report of a run, evaluated on data if there are any; return where it is."""
    from contrarec.data.report import describe
    from contrarec.report.page import write_page
    from contrarec.report.run import run_page

    evaluations = recommender.evaluate(data) if data else {}
    page = run_page(folder, evaluations, describe(data) if data else None)
    write_page(page, out or folder / NAME)
    return out or folder / NAME


def report_comparison(folder: Path, out: Path | None = None) -> Path:
    """Write the report of a comparison; return where it is."""
    from contrarec.report.comparison import comparison_page
    from contrarec.report.page import write_page

    write_page(comparison_page(folder), out or folder / NAME)
    return out or folder / NAME


def _data(
    console: Output, run: Path, given: str | None, columns: tuple[str | None, ...]
) -> "Dataset | None":
    """Read what the run is evaluated on; None if it was not said and is no longer there."""
    from contrarec import runs

    known = runs.read_settings(run)[1].path
    if given is None and not (known and Path(known).exists()):
        console.note(
            f"{known or 'the data'}: not there, so the report has no intervals; say where the data "
            "are (--data)."
        )
        return None
    return data_of(console, run, given, columns)
