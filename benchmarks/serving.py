"""A server under load: answers a second, how late they are, and another run swapped in meanwhile.

The server is a process of its own, `contrarec serve` with the vectors that training starts from;
this process is all of its clients. Each of them asks for one user, waits for the answer and asks
again. Both processes share the machine's cores, which a server and its callers need not.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import torch

from benchmarks.record import Row, ensure, pair
from benchmarks.worlds import histories
from contrarec import runs
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.model import Model
from contrarec.recommender import Recommender
from contrarec.settings import resolve_settings

K = 20
BATCH = 64
GROWTH = 1.1
"""Memory after the load over that after warming up, at most; half of the load is after a swap."""
_SCRIPT = "import sys; from contrarec.cli import main; sys.exit(main())"  # what pip installs


@dataclass
class Load:
    """What the clients saw."""

    seconds: list[float] = field(default_factory=list)
    """From each question to the end of its answer."""
    errors: int = 0
    """Answers with another status than 200, and connections that broke."""
    runs: set[bytes] = field(default_factory=set)
    """What the runs that answered are called."""


def rows(
    *,
    short: bool,
    threads: int,
    n_users: int = 95_000,
    n_items: int = 42_000,
    n_interactions: int = 2_000_000,
    clients: int = 64,
    seconds: float | None = None,
) -> Iterator[Row]:
    """Yield what batches are worth, then throughput and latency under load.

    Args:
        short: 10 seconds of load instead of 60, fewer repeats.
        threads: of the server.
        n_users: of the synthetic run.
        n_items: likewise.
        n_interactions: likewise.
        clients: connections, each with one question at a time.
        seconds: of load, if not as `short` says; the swap comes in the middle.
    """
    duration = seconds or (10.0 if short else 60.0)
    shape = f"{n_users:,} users × {n_items:,} items, dim 64, top {K}"
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for seed, name in enumerate(("first", "second")):
            _make_run(base / name, n_users, n_items, n_interactions, seed)
        yield {
            "what": f"serving: {BATCH} users in a batch",
            "shape": shape,
            "other": "the same, one after the other",
        } | _batching(base / "first", 3 if short else 7)
        (base / "served").symlink_to("first")
        with _server(base / "served", threads) as (url, pid):
            _check(url, base / "first")
            load, peak = asyncio.run(_measure(url, pid, clients, duration, n_users, base))
    ensure(load.errors == 0, f"{load.errors} of {len(load.seconds)} questions failed")
    ensure(load.runs == {b"first", b"second"}, f"{load.runs} answered, not both runs")
    late = np.sort(load.seconds)
    shape += f", {clients} connections, a swap"
    yield {
        "what": "serving: an answer, the median one",
        "shape": shape,
        "seconds": float(late[len(late) // 2]),
        "rate": len(late) / duration,
        "peak_mib": peak,
    }
    yield {
        "what": "serving: an answer, 99 of 100 within",
        "shape": shape,
        "seconds": float(late[int(0.99 * len(late))]),
        "peak_mib": peak,
    }


def _make_run(folder: Path, n_users: int, n_items: int, n_interactions: int, seed: int) -> None:
    indptr, indices = histories(n_users, n_items, n_interactions, seed=seed)
    users, items = (
        Vocabulary.of([f"{letter}{number}" for number in range(n)])
        for letter, n in (("u", n_users), ("i", n_items))
    )
    history = Interactions(indptr=indptr, indices=indices, users=users, items=items)
    settings = resolve_settings(backbone="mf", loss="infonce", seed=seed, overrides={"dim": 64})
    about = runs.RunData(name="synthetic", path="", fingerprint=str(seed), frame="polars")
    runs.begin(folder, settings, about, history)
    weights = Model(settings, history, torch.device("cpu")).weights()
    runs.finish(folder, weights, {"run": str(folder)})


def _batching(run: Path, repeats: int) -> Row:
    """Compare a batch of questions with the same questions one by one."""
    from contrarec.serving.model import ServedModel
    from contrarec.serving.schemas import RecommendRequest

    model = ServedModel.load(run, device="cpu")
    questions = [RecommendRequest(users=[user], k=K) for user in model.users.ids[:BATCH]]

    def together() -> list[list[str]]:
        return [_names(answer) for answer in model.recommend(questions)]

    def alone() -> list[list[str]]:
        return [_names(model.recommend([question])[0]) for question in questions]

    ensure(together() == alone(), "a batch gives other items than its questions alone")
    return pair(together, alone, repeats)


def _names(answer: dict) -> list[str]:  # type: ignore[type-arg]
    return [item["item_id"] for item in answer["results"][0]["items"]]


@contextlib.contextmanager
def _server(run: Path, threads: int) -> Iterator[tuple[str, int]]:
    """Start `contrarec serve` on a free port; yields its address and process."""
    words = ("serve", str(run), "--port", "0", "--json", "--device", "cpu")
    command = [sys.executable, "-c", _SCRIPT, *words, "--threads", str(threads)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            ensure(bool(line), "the server did not start")
            yield json.loads(line)["url"], process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(60)
    ensure(status == 0, f"the server ended with status {status}")


def _check(url: str, run: Path) -> None:
    """Compare an answer with the library's."""
    user = Recommender.load(run, device="cpu").users.ids[7]
    with urllib.request.urlopen(f"{url}/recommend?user={user}&k={K}") as answer:
        got = _names(json.load(answer))
    want = Recommender.load(run, device="cpu").recommend([user], k=K)["item_id"].to_list()
    ensure(got == want, f"other items were recommended: {got}, not {want}")


async def _measure(
    url: str, pid: int, clients: int, duration: float, n_users: int, base: Path
) -> tuple[Load, float | None]:
    """Ask for so long and swap in the middle; returns what came back, and the server's peak."""
    await _ask(url, clients, min(2.0, duration), n_users)  # does not count
    before = _resident_mib(pid, "VmRSS")
    asking = asyncio.create_task(_ask(url, clients, duration, n_users))
    await asyncio.sleep(duration / 2)
    (base / "next").symlink_to("second")
    (base / "next").replace(base / "served")
    os.kill(pid, signal.SIGHUP)
    load = await asking
    after = _resident_mib(pid, "VmRSS")
    if before and after:
        ensure(after < GROWTH * before, f"memory went from {before:.0f} to {after:.0f} MiB")
    return load, _resident_mib(pid, "VmHWM")


async def _ask(url: str, clients: int, duration: float, n_users: int) -> Load:
    load, end = Load(), time.perf_counter() + duration
    rng = np.random.default_rng(0)
    users = rng.integers(n_users, size=(clients, 4096))
    await asyncio.gather(*(_client(url, load, end, row.tolist()) for row in users))
    return load


async def _client(url: str, load: Load, end: float, users: list[int]) -> None:
    """Ask one question after the other on one connection, until the time is over."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        asked = 0
        while (started := time.perf_counter()) < end:
            body = b'{"users":["u%d"],"k":%d}' % (users[asked % len(users)], K)
            asked += 1
            writer.write(
                b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            answer = await reader.readexactly(length)
            load.seconds.append(time.perf_counter() - started)
            load.errors += not head.startswith(b"HTTP/1.1 200")
            load.runs.add(answer[8:].partition(b'"')[0])  # {"run":"NAME",…
    except (OSError, asyncio.IncompleteReadError, IndexError):
        load.errors += 1
    finally:
        writer.close()


def _resident_mib(pid: int, name: str) -> float | None:
    """Return the resident memory of a process, present or largest, where Linux tells it."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return None
    text = status.read_text(encoding="ascii")
    return int(text.partition(f"{name}:")[2].split()[0]) / 1024
