"""The server's process: its socket, its signals, its end."""

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from contrarec.errors import ConfigError
from contrarec.serving.service import Service

_BACKLOG = 1024


def listen(host: str, port: int) -> socket.socket:
    """Take an address; connections are accepted as soon as `serve` runs.

    Args:
        host: a name or an address of this machine.
        port: 0 for any that is free.

    Raises:
        ConfigError: the address cannot be had.
    """
    if not 0 <= port < 1 << 16:
        raise ConfigError(f"`port` must lie in [0, 65535], got {port}.")
    taken = None
    try:
        kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(kind, socket.SOCK_STREAM)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except (OSError, UnicodeError) as error:
        if taken is not None:
            taken.close()
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen on {host} port {port}: {why}.") from error
    return taken


def address_of(taken: socket.socket) -> tuple[str, int]:
    """Return host and port of a socket."""
    host, port = taken.getsockname()[:2]
    return host, port


def url_of(taken: socket.socket) -> str:
    """Return the address of the page.

    >>> with listen("127.0.0.1", 0) as taken:
    ...     url_of(taken).rpartition(":")[0]
    'http://127.0.0.1'
    """
    host, port = address_of(taken)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    app: FastAPI, taken: socket.socket, *, on_start: Callable[[], None], watch: float, grace: int
) -> None:
    """Answer requests until SIGTERM or SIGINT; those under way are finished first.

    SIGHUP reads the run again, where there is such a signal.

    This is for the main thread of a process that ends afterwards: it ignores SIGTERM from then on,
    which must not make a second one look like a failure.

    Args:
        app: made by `make_app`.
        taken: made by `listen`; closed at the end.
        on_start: called when connections are accepted.
        watch: seconds between looks at the folder of the run; 0 for none.
        grace: seconds that requests have to be finished in, at the end.

    Raises:
        KeyboardInterrupt: it was SIGINT.
    """
    app.router.lifespan_context = _lifespan(app, watch)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # ids of users stay out of logs
        server_header=False,
        lifespan="on",
        backlog=_BACKLOG,
        timeout_graceful_shutdown=grace,
    )
    server = _Server(config, on_start)
    # The server sends itself the signals again that it has stopped for; and one may come before it
    # listens to them.
    signal.signal(signal.SIGTERM, server.handle_exit)
    server.run(sockets=[taken])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if server.interrupted:
        raise KeyboardInterrupt


class _Server(uvicorn.Server):
    """Tells when it has started, and whether it was Ctrl-C that ended it."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start
        self.interrupted = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.interrupted |= sig == signal.SIGINT
        super().handle_exit(sig, frame)


def _lifespan(app: FastAPI, watch: float) -> Callable[[Any], Any]:
    """Add to the application's life what exchanges its model."""
    service: Service = app.state.service
    of_app = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(of: Any) -> AsyncIterator[None]:
        tasks: set[asyncio.Task[None]] = set()

        def start(work: Any) -> None:
            task = asyncio.get_running_loop().create_task(work)
            tasks.add(task)  # the loop itself would let it be collected
            task.add_done_callback(tasks.discard)

        hangup = getattr(signal, "SIGHUP", None)
        if hangup is not None:
            asyncio.get_running_loop().add_signal_handler(hangup, lambda: start(service.reload()))
        if watch:
            start(_watch(service, watch))
        async with of_app(of):
            yield
            for task in tasks:
                task.cancel()

    return lifespan


async def _watch(service: Service, seconds: float) -> None:
    """Swap in whatever finished run the folder comes to hold."""
    while True:
        await asyncio.sleep(seconds)
        try:
            if await asyncio.to_thread(service.live.changed):
                await service.reload()
        except Exception:
            logging.getLogger("contrarec.serving").exception("watching failed")
