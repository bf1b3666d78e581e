"""The race: runners train in turns, and what their vectors are worth is measured between them."""

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from contrarec.errors import ContrarecError

Measure = Callable[[Path, bool], float]
"""(file of vectors, whether on the test set) → NDCG@20"""
Point = dict[str, Any]
"""`epoch`, `seconds` of training, `valid`, and `test` where `valid` is the best so far."""

LONGEST_TURN = 900.0  # seconds; a runner that is silent for longer is taken for hung


class RunnerError(Exception):
    """A runner ended without being asked to; the message is the end of what it said."""


class Runner:
    """A process that trains when it has the turn, and answers in lines of JSON."""

    def __init__(self, command: Sequence[str], variables: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                command,
                env=os.environ | variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def hear(self) -> dict[str, Any]:
        """Wait for its next line.

        Raises:
            RunnerError: it ended, or said nothing for `LONGEST_TURN` seconds.
        """
        timer = threading.Timer(LONGEST_TURN, self._process.kill)
        timer.start()
        try:
            line = _pipe(self._process.stdout).readline()
        finally:
            timer.cancel()
        if line:
            found: dict[str, Any] = json.loads(line)
            return found
        self._process.wait()
        said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise RunnerError(said[-1] if said else f"exit status {self._process.returncode}")

    def go(self) -> None:
        """Give it the turn."""
        with contextlib.suppress(BrokenPipeError):  # `hear` tells what happened
            pipe = _pipe(self._process.stdin)
            pipe.write("go\n")
            pipe.flush()

    def stop(self) -> None:
        """End it, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                _pipe(pipe).close()


@dataclass(kw_only=True, eq=False)
class Entrant:
    """One library, model and setting in the race."""

    name: tuple[str, str]
    """Library and model."""
    setting: dict[str, Any]
    start: Callable[[], Runner]
    measure: Measure
    hello: dict[str, Any] = field(default_factory=dict)
    """Its `version` and its `negatives` a positive."""
    points: list[Point] = field(default_factory=list)
    spent: float = 0.0
    """Seconds of wall clock in its turns: training and being evaluated."""
    ended: str = ""
    """`patience`, `budget`, `total` or `failed: …`; `trial …` if another setting was better."""
    _runner: Runner | None = None

    @property
    def best(self) -> float:
        """The best validation value so far; -1 without any."""
        return max((point["valid"] for point in self.points), default=-1.0)

    def turn(self, budget: float, patience: int) -> None:
        """Let it train to its next evaluation, evaluate, and end it if it is over."""
        try:
            if self._runner is None:
                self._runner = self.start()
                self.hello = self._runner.hear()
            began = time.perf_counter()
            self._runner.go()
            message = self._runner.hear()
            vectors = Path(message.pop("vectors"))
            valid = self.measure(vectors, False)
            test = self.measure(vectors, True) if valid > self.best else None
            self.points.append(message | {"valid": valid, "test": test})
            self.spent += time.perf_counter() - began
        except (RunnerError, ContrarecError) as error:
            self.end(f"failed: {error}")
            return
        if self._evaluations_since_best() >= patience:
            self.end("patience")
        elif self.spent >= budget:
            self.end("budget")

    def lose(self) -> None:
        """End it, and note that another setting was better in the trial."""
        self.end("")
        failed = self.ended.startswith("failed")
        self.ended = f"trial, {self.ended}" if failed else "trial"

    def end(self, why: str) -> None:
        """Stop the process and note why, unless that is known."""
        self.ended = self.ended or why
        if self._runner:
            self._runner.stop()
            self._runner = None

    def _evaluations_since_best(self) -> int:
        values = [point["valid"] for point in self.points]
        return len(values) - 1 - values.index(max(values))


def race(
    entries: Sequence[Sequence[Entrant]],
    *,
    trial: float,
    budget: float,
    total: float,
    patience: int,
) -> Iterator[Entrant]:
    """Try every setting of every entry, then let the best of each train on in turns.

    The turn goes to whoever has had the least time. That spreads what else the machine does over
    all of them alike, and whenever it ends, those still going have had the same time.

    Args:
        entries: the settings of each.
        trial: seconds of wall clock for each setting to show what it is worth; always one turn.
        budget: seconds of wall clock for the setting that goes on, its trial included.
        total: seconds of wall clock after which nobody gets another turn.
        patience: evaluations in a row without a better validation value that end a run.

    Yields:
        Entrants as they end: those that lost a trial, then the others.
    """
    began = time.perf_counter()
    everyone = [entrant for settings in entries for entrant in settings]
    try:
        going = []
        for settings in entries:
            for entrant in settings:
                while not entrant.ended and (not entrant.points or entrant.spent < trial):
                    entrant.turn(budget, patience)
            best = max(settings, key=lambda entrant: entrant.best)  # of equals, the first
            for entrant in settings:
                if entrant is not best:
                    entrant.lose()
                    yield entrant
            going.append(best)
        while going:
            entrant = min(going, key=lambda entrant: entrant.spent)
            if not entrant.ended and time.perf_counter() - began >= total:
                entrant.end("total")
            if not entrant.ended:
                entrant.turn(budget, patience)
            if entrant.ended:
                going.remove(entrant)
                yield entrant
    finally:
        for entrant in everyone:
            entrant.end("interrupted")


def _pipe(pipe: Any) -> TextIO:
    """Return a pipe that was asked for, and is therefore there."""
    return pipe  # type: ignore[no-any-return]
