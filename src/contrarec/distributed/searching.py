"""The trials of a search on a cluster: several methods at a time, trial after trial of each.

What a trial tries depends on those before it, so the trials of one method follow each other, and
are those of a search without workers. The driver alone writes their file.
"""

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar

from contrarec.data.dataset import Dataset
from contrarec.distributed.cluster import Launch, cluster, load_ray
from contrarec.distributed.tasks import Tasks
from contrarec.errors import ConfigError
from contrarec.settings import Settings
from contrarec.tuning.study import complete_trials, load_optuna, stand_in
from contrarec.tuning.trials import train_trial

A = TypeVar("A")
B = TypeVar("B")


@contextmanager
def search_crew(data: Dataset, *, launch: Launch) -> Iterator["SearchCrew"]:
    """Start workers that train trials on these data; for `contrarec.tuning.tune`.

    Args:
        data: with a validation set; they go to every machine once, through Ray.
        launch: how many trials at a time, and where.

    Raises:
        BackendError: Ray is not installed, or has too little to give.
    """
    ray = load_ray(local=launch.address is None)
    with cluster(ray, launch) as on_gpu:
        stored, device = ray.put(pickle.dumps(data)), "cuda" if on_gpu else "cpu"
        yield SearchCrew(Tasks(ray, launch, on_gpu=on_gpu), launch.workers, stored, device)


class SearchCrew:
    """Trains trials as tasks; a thread for each method waits for them.

    Args:
        tasks: of the cluster.
        n_workers: methods at a time.
        stored: reference to the pickled data.
        device: of each trial.
    """

    def __init__(self, tasks: Tasks, n_workers: int, stored: Any, device: str) -> None:
        self._tasks, self._n_workers = tasks, n_workers
        self._stored, self._device = stored, device
        self._running = set[Any]()
        self._over, self._lock = False, Lock()

    @contextmanager
    def each(self, function: Callable[[A], B], jobs: Sequence[A]) -> Iterator[Iterable[B]]:
        """Call a function with each of these, as many at a time as there are workers."""
        with ThreadPoolExecutor(self._n_workers) as threads:
            try:
                yield threads.map(function, jobs)
            finally:
                with self._lock:
                    self._over, left = True, list(self._running)
                self._tasks.stop(left, force=True)
                threads.shutdown(cancel_futures=True)

    def train(self, settings: Settings, trial: Any, warm_up: int) -> float:
        """Train a trial elsewhere, and tell its study what happened there.

        Raises:
            TrialPruned: the trial was given up.
            ConfigError: the loss became NaN or infinite.
            BackendError: workers died again and again.
        """
        about = settings.to_toml(), complete_trials(trial), warm_up, self._device
        with self._lock:  # either it is stopped with the others, or it never starts
            if self._over:
                raise KeyboardInterrupt
            reference = self._tasks.start(_try, self._stored, *about)
            self._running.add(reference)
        try:
            found = self._tasks.result(reference)
        finally:
            self._running.discard(reference)
        reported = trial.study.trials[trial.number].intermediate_values
        for epoch, value in found["values"].items():
            if epoch not in reported:  # by an earlier go at the same trial
                trial.report(value, epoch)
        for name, value in found["attributes"].items():
            trial.set_user_attr(name, value)
        if found["error"] is not None:
            raise ConfigError(found["error"])
        if found["valid"] is None:
            raise load_optuna().TrialPruned
        valid: float = found["valid"]
        return valid


def _try(
    stored: bytes, settings: str, earlier: Sequence[Any], warm_up: int, device: str
) -> dict[str, Any]:
    """Train a trial; return what its study would have been told."""
    data: Dataset = pickle.loads(stored)
    trial = stand_in(earlier, warm_up)
    valid, failure = None, None
    try:
        valid = train_trial(data, Settings.from_toml(settings), trial, device)
    except load_optuna().TrialPruned:
        pass
    except ConfigError as error:
        failure = str(error)
    known = trial.study.trials[trial.number]
    return {
        "valid": valid,
        "error": failure,
        "values": known.intermediate_values,
        "attributes": known.user_attrs,
    }
