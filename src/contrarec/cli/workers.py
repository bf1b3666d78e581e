"""The options of commands that several workers can share, and what they mean together."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrarec.errors import ConfigError

if TYPE_CHECKING:
    from contrarec.distributed.cluster import Launch

Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Divide the work among N workers, which Ray starts; --threads is then of each.",
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="The Ray cluster for the workers: auto or HOST:PORT; if not given, one is started "
        "on this machine and stopped again.",
    ),
]


ItemTables = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="Items with --workers: replicated (if not given), or torchrec: each worker has a "
        "shard of them; on CPUs, for mf.",
    ),
]


def launch_of(
    workers: int | None,
    ray_address: str | None,
    device: str,
    threads: int | None,
    tables: str | None = None,
) -> "Launch | None":
    """Return how workers are started; None where none were asked for.

    Raises:
        ConfigError: an address or tables without workers, or fewer than one of them.
    """
    if workers is None:
        if ray_address is not None:
            raise ConfigError("`--ray-address` needs `--workers`, how many to start there.")
        if tables is not None:
            raise ConfigError("`--tables` needs `--workers`, who have the tables.")
        return None
    from contrarec.distributed.cluster import Launch

    kind: Any = tables or "replicated"  # checked there
    return Launch(
        workers=workers, address=ray_address, device=device, threads=threads or 1, tables=kind
    )
