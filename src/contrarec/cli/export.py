"""`contrarec export`: a trained run for other programs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrarec.cli.console import Json, output
from contrarec.cli.inputs import Run
from contrarec.errors import ConfigError, unknown

if TYPE_CHECKING:
    from contrarec.serving.export import Exported

_FORMATS = ("parquet", "safetensors", "faiss", "onnx", "pgvector")


def export(
    run: Run,
    kind: Annotated[str, typer.Option("--format", metavar="NAME", help=f"{', '.join(_FORMATS)}.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="A new folder to write; not for pgvector."),
    ] = None,
    index: Annotated[
        str, typer.Option(metavar="NAME", help="faiss: auto, flat, hnsw or ivfpq.")
    ] = "auto",
    dsn: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="pgvector: the connection string; better in CONTRAREC_DSN, where no other "
            "user of the machine can read it.",
        ),
    ] = None,
    prefix: Annotated[
        str, typer.Option("--table", metavar="NAME", help="pgvector: NAME_users and NAME_items.")
    ] = "contrarec",
    as_json: Json = False,
) -> None:
    """Write the ids and vectors of a run for other programs.

    parquet and safetensors hold users and items; faiss an index of the items with its recall
    against exact search; onnx the scorer of a user's history; pgvector fills tables of a
    PostgreSQL database.
    """
    with output(as_json) as console:
        if kind not in _FORMATS:
            raise ConfigError(f"--format: {unknown('format', kind, _FORMATS)}")
        if (out is None) != (kind == "pgvector"):
            rule = "is not for" if kind == "pgvector" else "must name a new folder with"
            raise ConfigError(f"--out {rule} --format {kind}.")
        from contrarec.serving.export import read_exported

        about = _write(read_exported(run), kind, out or Path(), run, (index, dsn, prefix))
        result = {"run": run, "out": out} | about
        console.finish(result, lambda: _text(result))


def _write(
    exported: "Exported", kind: str, out: Path, run: Path, options: tuple[str, str | None, str]
) -> dict[str, Any]:
    index, dsn, prefix = options
    if kind == "faiss":
        from contrarec.serving.ann import to_faiss

        return to_faiss(exported, out, index)
    if kind == "onnx":
        from contrarec.serving.onnx_run import export_fold_in

        return export_fold_in(exported, out, run)
    if kind == "pgvector":
        from contrarec.serving.pgvector import to_postgres

        return to_postgres(exported, dsn, prefix)
    from contrarec.serving.export import to_parquet, to_safetensors

    return (to_parquet if kind == "parquet" else to_safetensors)(exported, out)


def _text(result: dict[str, Any]) -> str:
    size = f"{result['users']} users and {result['items']} items of {result['dim']} numbers"
    text = f"{result['out'] or ', '.join(result.get('tables', ()))}: {size}"
    if "recall" in result:
        recall = result["recall"]
        text += (
            f"; {result['kind']} index, recall@{recall['k']} {recall['recall']:.4f} of exact search"
        )
    if "largest_difference" in result:
        text += f"; differs from torch by at most {result['largest_difference']:.1e}"
    return text
