"""A Ray cluster to work on: one that is running, or one of this machine's own for a while."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from contrarec.config import require
from contrarec.errors import BackendError, ConfigError

ItemTables = Literal["replicated", "torchrec"]
"""How workers have the items: a copy each, or shards of rows that TorchRec looks up."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How workers are started."""

    workers: int
    """How many."""
    address: str | None = None
    """Of a Ray cluster, or `auto`; None starts one on this machine and stops it again."""
    device: str = "auto"
    """`cpu`, `cuda`, or `auto`: a GPU for each worker if the cluster has as many."""
    threads: int = 1
    """CPU threads, and CPUs asked for, of each worker."""
    tables: ItemTables = "replicated"
    """Of items, where a model is trained."""
    max_failures: int = 3
    """How often workers are started again, or a task is tried again, before it is given up."""
    timeout: float = 300.0
    """Seconds that the other workers wait for one that hangs."""
    grace: float = 120.0
    """Seconds that workers have to save what they do after Ctrl-C."""

    def __post_init__(self) -> None:
        for name in ("workers", "threads"):
            require(getattr(self, name) >= 1, name, "be at least 1", getattr(self, name))
        known = self.tables in ("replicated", "torchrec")
        require(known, "tables", "be 'replicated' or 'torchrec'", self.tables)


def load_ray(*, local: bool, train: bool = False) -> Any:
    """Import Ray, and its training library if asked for.

    Args:
        local: whether everything will run on this machine; Ray and gloo then keep to the loopback
            address, and workers to the priority of this process.
        train: whether Ray Train is needed.

    Raises:
        BackendError: it is not installed.
    """
    wanted = {"RAY_TRAIN_V2_ENABLED": "1"}
    if local:  # the second is what Ray asks on any system, whatever its name says
        wanted |= {"RAY_worker_niceness": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        wanted |= {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    for name, value in wanted.items():  # before Ray is imported, which reads them
        os.environ.setdefault(name, value)
    try:
        import ray

        if train:
            import ray.train.torch
    except ImportError as error:
        raise BackendError(f"`workers` need Ray ({error}): pip install 'contrarec[dist]'") from None
    return ray


@contextmanager
def cluster(ray: Any, launch: Launch) -> Iterator[bool]:
    """Connect to a Ray cluster, or start one on this machine; yield whether workers get GPUs.

    Raises:
        ConfigError: `device` is not one of the choices.
        BackendError: there is no such cluster, or it has too little for the workers.
    """
    if launch.device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"`device` must be auto, cpu or cuda, got {launch.device!r}.")
    joined = ray.is_initialized()
    if not joined:
        _connect(ray, launch)
    try:
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = int(sum(machine.get("GPU", 0) for machine in machines))
        on_gpu = launch.device == "cuda" or (launch.device == "auto" and gpus >= launch.workers)
        _require(launch, "CPU", launch.threads, [int(part.get("CPU", 0)) for part in machines])
        if on_gpu:
            _require(launch, "GPU", 1, [int(part.get("GPU", 0)) for part in machines])
        yield on_gpu
    finally:
        if not joined:
            ray.shutdown()


def _connect(ray: Any, launch: Launch) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if launch.address is not None:
        try:
            _knock(launch.address)
            ray.init(address=launch.address, **quiet)
        except (OSError, ValueError, RuntimeError) as error:
            raise BackendError(
                f"no Ray cluster at {launch.address!r}: {str(error).splitlines()[0]}"
            ) from None
        return
    cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    _require(launch, "CPU", launch.threads, [cpus])  # before it takes seconds
    ray.init(
        address="local", num_cpus=cpus, include_dashboard=False, _node_ip_address="127.0.0.1",
        **quiet,
    )  # fmt: skip


def _knock(address: str) -> None:
    """Raise at once where nobody listens at HOST:PORT; Ray itself would ask for minutes.

    Raises:
        OSError: nobody does.
    """
    host, colon, port = address.rpartition(":")
    if colon and "/" not in host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _require(launch: Launch, kind: str, each: int, there: list[int]) -> None:
    """Raise if the machines have no room for the workers, none of which spans two of them."""
    if sum(count // each for count in there) < launch.workers:
        where, most = launch.address or "this machine", max(there, default=0)
        parts = f" ({most} on one machine at most)" if len(there) > 1 else ""
        raise BackendError(
            f"{launch.workers} workers need {launch.workers * each} {kind}s ({each} each), and "
            f"{where} has {sum(there)}{parts}: ask for fewer workers or threads, or for a larger "
            "cluster."
        )
