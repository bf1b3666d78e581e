"""What the runners share: the job, the clock, and the turns that the driver gives.

A runner is executed with its library's Python, so this needs NumPy alone. It trains while it has
the turn. After some epochs it writes its vectors to a file, says so in one line of JSON on standard
output, and waits: the clock stands still while the driver evaluates and while others have the turn.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Vectors = Callable[[], tuple[np.ndarray, np.ndarray]]
"""Returns user vectors `[n_users, d]` and item vectors `[n_items, d]`; scores are dot products."""
Scores = Callable[[int], np.ndarray]
"""The library's own scores `[n_items]` of a user."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a runner is asked to do."""

    model: str
    options: dict[str, Any]
    dim: int
    seed: int
    threads: int
    every: int
    """Epochs from one evaluation to the next."""
    preset: str | None
    """Settings of contrarec to start from."""
    folder: Path
    """For files of one's own."""
    indptr: np.ndarray
    """`[n_users + 1]`, where each user's training items start."""
    indices: np.ndarray
    """`[nnz]` training items."""
    n_items: int

    @property
    def n_users(self) -> int:
        """Users, with or without training items."""
        return len(self.indptr) - 1

    @property
    def users(self) -> np.ndarray:
        """`[nnz]`, the user of each training item."""
        return np.repeat(np.arange(self.n_users), np.diff(self.indptr))


class Turns:
    """The job of this process, and the exchange with the driver."""

    def __init__(self) -> None:
        # what a library prints must not come between the lines of JSON
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        with np.load(sys.argv[1]) as data:
            arrays = {name: data[name] for name in ("indptr", "indices")}
            n_items = int(data["n_items"])
        told = json.loads(sys.argv[2])
        folder = Path(told.pop("folder"))
        self.job = Job(**told, folder=folder, n_items=n_items, **arrays)
        self._epoch, self._seconds, self._mark = 0, 0.0, 0.0

    def begin(self, *, version: str, negatives: int | str) -> None:
        """Say what is about to train, and wait for the first turn."""
        self._say({"version": version, "negatives": negatives})

    def trained(self, vectors: Vectors, scores: Scores, epochs: int = 1) -> None:
        """Count epochs that have just been trained; hand over the turn if it is time.

        Exits when the driver wants no more.

        Raises:
            ValueError: the vectors do not give the library's own scores.
        """
        self._seconds += time.perf_counter() - self._mark
        self._epoch += epochs
        if self._epoch % self.job.every == 0:
            users, items = vectors()
            if self._epoch == self.job.every:
                self._check(users, items, scores)
            path = self.job.folder / "vectors.npz"
            np.savez(path, users=users.astype(np.float32), items=items.astype(np.float32))
            self._say({"epoch": self._epoch, "seconds": self._seconds, "vectors": str(path)})
        self._mark = time.perf_counter()

    def _check(self, users: np.ndarray, items: np.ndarray, scores: Scores) -> None:
        job = self.job
        if (len(users), len(items)) != (job.n_users, job.n_items):
            raise ValueError(
                f"vectors must be for {job.n_users} users and {job.n_items} items, got "
                f"{len(users)} and {len(items)}."
            )
        seen = np.unique(job.indices)
        active = np.flatnonzero(np.diff(job.indptr))
        for user in active[:: max(1, len(active) // 10)]:
            got, want = items[seen] @ users[user], scores(int(user))[seen]
            if not np.allclose(got, want, rtol=1e-3, atol=1e-4):
                raise ValueError(f"the vectors do not give the library's scores of user {user}.")

    def _say(self, message: dict[str, Any]) -> None:
        print(json.dumps(message), file=self._out, flush=True)
        if sys.stdin.readline().strip() != "go":
            sys.exit(0)
        self._mark = time.perf_counter()
