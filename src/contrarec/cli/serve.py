"""`contrarec serve`: a run's recommendations over HTTP."""

import os
from typing import Annotated, Any

import typer

from contrarec.cli.console import Device, Json, Threads, output, use_threads
from contrarec.cli.inputs import Run
from contrarec.errors import BackendError, ConfigError

KEY = "CONTRAREC_API_KEY"
"""Environment variable with the key that requests have to bring."""


def serve(
    run: Run,
    host: Annotated[
        str,
        typer.Option(metavar="NAME", help="Address to listen on; 0.0.0.0 is every one there is."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="Port; 0 takes any free one.")] = 8000,
    watch: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Look for another run in RUN so often; 0 for never."),
    ] = 0.0,
    max_k: Annotated[int, typer.Option(metavar="N", help="Longest list of a call.")] = 500,
    max_ids: Annotated[int, typer.Option(metavar="N", help="Most ids in a call.")] = 1000,
    max_body: Annotated[int, typer.Option(metavar="BYTES", help="Largest body.")] = 1 << 20,
    grace: Annotated[
        int,
        typer.Option(metavar="SECONDS", help="How long calls under way are waited for at the end."),
    ] = 30,
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Serve recommendations, similar items and a page to look at them.

    RUN may be a link: let it point to another run and send SIGHUP, or use --watch, and that one
    answers from then on; no request is dropped. With CONTRAREC_API_KEY in the environment, requests
    must bring that key. SIGTERM ends the server after the requests that are under way.

    The address is printed once connections are accepted.
    """
    with output(as_json) as out:
        make_app, limits, live, server = _load()
        key = _key()
        bounds = limits(max_k=max_k, max_ids=max_ids, max_body=max_body)
        if not 0 <= watch < float("inf"):
            raise ConfigError(f"`watch` must not be negative, got {watch}.")
        if grace < 0:
            raise ConfigError(f"`grace` must not be negative, got {grace}.")
        use_threads(threads)
        with server.listen(host, port) as taken:
            app = make_app(live(run, device), key=key, limits=bounds)
            url = server.url_of(taken)
            at, number = server.address_of(taken)
            if key is None and not at.startswith("127.") and at != "::1":
                out.note(f"anyone who reaches {url} is answered: {KEY} is not set.")
            result = {"url": url, "host": at, "port": number, "run": run, "pid": os.getpid()}
            server.serve(
                app,
                taken,
                on_start=lambda: out.finish(result, lambda: f"{run}: {url}"),
                watch=watch,
                grace=grace,
            )


def _key() -> str | None:
    key = os.environ.get(KEY)
    if key is not None and not (key and key.isascii() and key.isprintable() and key == key.strip()):
        raise ConfigError(f"{KEY} must be printable ASCII without spaces around it, and not empty.")
    return key


def _load() -> tuple[Any, Any, Any, Any]:
    try:
        from contrarec.serving import server
        from contrarec.serving.app import make_app
        from contrarec.serving.live import Live
        from contrarec.serving.model import ServedModel
        from contrarec.serving.schemas import Limits
    except ImportError as error:
        raise BackendError(
            f"serving needs fastapi, uvicorn and prometheus-client: "
            f"pip install 'contrarec[serve]' ({error})."
        ) from error
    return (
        make_app,
        Limits,
        lambda run, device: Live(run, lambda folder: ServedModel.load(folder, device=device)),
        server,
    )
