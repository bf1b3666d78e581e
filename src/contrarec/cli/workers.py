"""The options of commands that several workers can share, and what they mean together."""

from typing import TYPE_CHECKING, Annotated

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


def launch_of(
    workers: int | None, ray_address: str | None, device: str, threads: int | None
) -> "Launch | None":
    """Return how workers are started; None where none were asked for.

    Raises:
        ConfigError: an address without workers, or fewer than one of them.
    """
    if workers is None:
        if ray_address is not None:
            raise ConfigError("`--ray-address` needs `--workers`, how many to start there.")
        return None
    from contrarec.distributed.cluster import Launch

    return Launch(workers=workers, address=ray_address, device=device, threads=threads or 1)
