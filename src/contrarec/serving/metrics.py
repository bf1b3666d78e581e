"""What Prometheus may ask for."""

import time

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.requests = Counter(
            "contrarec_requests", "Requests, by path and status.", ("path", "status"),
            registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "contrarec_request_seconds", "From the request to the end of its answer.", ("path",),
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.batch_rows = Histogram(
            "contrarec_batch_rows", "Users, histories or items that were computed together.",
            ("kind",), buckets=_ROWS, registry=self.registry,
        )  # fmt: skip
        self.batch_seconds = Histogram(
            "contrarec_batch_seconds", "Time to compute a batch.", ("kind",),
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.popularity_lists = Counter(
            "contrarec_popularity_lists", "Lists for users of whom nothing was known.",
            registry=self.registry,
        )  # fmt: skip
        self.swaps = Counter(
            "contrarec_swaps", "Runs that were to be swapped in, by outcome.", ("outcome",),
            registry=self.registry,
        )  # fmt: skip
        self.loaded = Gauge(
            "contrarec_run_loaded_timestamp_seconds", "When the present run was read.",
            registry=self.registry,
        )  # fmt: skip
        self.loaded.set_to_current_time()

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def swapped(self, done: bool) -> None:
        """Count an attempt to swap a run in."""
        self.swaps.labels("done" if done else "failed").inc()
        if done:
            self.loaded.set_to_current_time()


class Measured:
    """ASGI middleware that counts and times requests.

    Args:
        app: what answers them.
        metrics: where they are counted.
        paths: those counted by name; all others are `other`, so that nobody can make labels.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]) -> None:
        self._app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and look at the status of the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else "other"
        status = 500
        started = time.perf_counter()

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            self._metrics.requests.labels(path, status).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - started)
