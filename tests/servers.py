"""Runs to be served, and servers of them in processes of their own."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

import contrarec as cr
from cli.tools import command

NASTY = '<img src=x onerror="alert(1)">'


def data(n_users: int = 24, n_items: int = 45) -> cr.Dataset:
    """Users `u0`, `u1`, … and items `i0`, …: user u has the items whose number fits u modulo 3.

    The first item is called `NASTY`; `i1` has the most users.
    """
    pairs = [
        (user, item)
        for user in range(n_users)
        for item in range(n_items)
        if item == 1 or (user % 3 == item % 3 and (user + item) % 5)
    ] + [(1, 0), (2, 0)]
    names = [NASTY, *(f"i{number}" for number in range(1, n_items))]
    frame = pl.DataFrame(
        {
            "user_id": [f"u{user}" for user, _ in pairs],
            "item_id": [names[item] for _, item in pairs],
        }
    ).unique(maintain_order=True)
    return cr.Dataset.from_frame(frame, user="user_id", item="item_id")


def train(folder: Path, loss: str = "infonce", seed: int = 0) -> cr.Recommender:
    """Train on `data()` for a moment, and keep the run."""
    if loss in ("popularity", "itemknn", "ease"):
        return cr.Recommender(loss=loss, seed=seed).fit(data(), out=folder)
    small = {"dim": 8, "epochs": 2, "n_neg": 4, "batch_size": 64, "lr": 0.05}
    return cr.Recommender("mf", loss, seed=seed, device="cpu", **small).fit(data(), out=folder)


class Server:
    """A running `contrarec serve`."""

    def __init__(self, process: "subprocess.Popen[str]", said: dict[str, Any]) -> None:
        self.process, self.said, self.url = process, said, said["url"]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Stop it, unless it has been told to; its exit status and its standard error."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=60)
        assert out == ""
        return self.process.returncode, err


@contextmanager
def served(run: Path, *options: object, key: str | None = None) -> Iterator[Server]:
    """Serve a run on a free port until the block ends."""
    environment = {name: v for name, v in os.environ.items() if name != "CONTRAREC_API_KEY"}
    if key is not None:
        environment["CONTRAREC_API_KEY"] = key
    words = command("serve", run, "--port", 0, "--json", "--threads", 1, *options)
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line, process.communicate(timeout=60)[1]
        yield Server(process, json.loads(line))
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=60)
