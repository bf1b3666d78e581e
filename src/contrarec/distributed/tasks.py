"""Whole pieces of work as Ray tasks: so many at a time, tried again where a worker dies."""

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contrarec.distributed.cluster import Launch
from contrarec.errors import BackendError, ContrarecError, error_of


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came of a call in another process."""

    value: Any
    failed: tuple[str, str] | None
    """Class and message of an error of this package, which no second try would mend."""
    notes: tuple[str, ...]
    """Warnings of this package."""


class Tasks:
    """Calls functions on a cluster.

    Args:
        ray: the module, connected to the cluster.
        launch: CPUs of each task, and how often it is tried again.
        on_gpu: whether each task gets a GPU.
    """

    def __init__(self, ray: Any, launch: Launch, *, on_gpu: bool) -> None:
        self._ray, self._launch = ray, launch
        self._call = ray.remote(_call).options(
            num_cpus=launch.threads, num_gpus=int(on_gpu), max_retries=launch.max_failures,
            scheduling_strategy="SPREAD",
        )  # fmt: skip

    def start(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Ask for a call and return its reference, for `result`.

        Args:
            function: of a module that can be imported on all machines.
            *arguments: values, or references from `ray.put`.
        """
        return self._call.remote(function, self._launch.threads, os.getcwd(), *arguments)

    def result(self, reference: Any) -> Any:
        """Wait for a call, and return or raise what it did; its warnings become this process's.

        Raises:
            BackendError: its workers died, one after the other.
            ContrarecError: as the function raised it.
        """
        errors = self._ray.exceptions
        try:
            answer: Answer = self._ray.get(reference)
        except (errors.RayTaskError, errors.TaskCancelledError):
            raise  # a bug, whose traceback matters; or the end of everything
        except errors.RayError as error:
            raise BackendError(
                f"a worker died {self._launch.max_failures + 1} times, the last time as "
                f"{type(error).__name__}; the same command goes on."
            ) from None
        for note in answer.notes:
            warnings.warn(note, UserWarning, stacklevel=1)
        if answer.failed:
            raise error_of(*answer.failed)
        return answer.value

    def run(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Any]]:
        """Call a function with each of these arguments, as many at a time as there are workers.

        If this ends early, by an error or by Ctrl-C, what is running is asked to save and stop.

        Yields:
            Position and value, as they come.
        """
        waiting, running = deque(enumerate(calls)), dict[Any, int]()
        try:
            while waiting or running:
                while waiting and len(running) < self._launch.workers:
                    position, arguments = waiting.popleft()
                    running[self.start(function, *arguments)] = position
                done = self._ray.wait(list(running))[0][0]
                position = running.pop(done)
                yield position, self.result(done)
        finally:
            self.stop(list(running))

    def all(self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a function as `run` does, and return the values in the order of the calls."""
        found = dict(self.run(function, calls))
        return [found[position] for position in range(len(calls))]

    def stop(self, running: Sequence[Any], *, force: bool = False) -> None:
        """Stop calls: with a Ctrl-C of their own, on which training saves, or else by force."""
        for reference in running:
            self._ray.cancel(reference, force=force)
        if running and not force:
            _, hanging = self._ray.wait(
                list(running), num_returns=len(running), timeout=self._launch.grace
            )
            for reference in hanging:
                self._ray.cancel(reference, force=True)


def _call(function: Callable[..., Any], threads: int, place: str, *arguments: Any) -> Answer:
    """Call a function as the driver would: its folder, so many threads, its errors and warnings."""
    from contrarec.kernels.dispatch import set_threads

    set_threads(threads)
    here = place if Path(place).is_dir() else "."  # settings may name files from there
    with warnings.catch_warnings(record=True) as caught, chdir(here):
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", category=UserWarning, module=r"contrarec(\.|$)")
        value, failed = None, None
        try:
            value = function(*arguments)
        except ContrarecError as error:
            failed = (type(error).__name__, str(error))
    return Answer(value=value, failed=failed, notes=tuple(str(note.message) for note in caught))
