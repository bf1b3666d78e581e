"""Training the trials of a search: in this process, or by others for it."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, TypeVar

from contrarec.data.dataset import Dataset
from contrarec.recommender import Recommender
from contrarec.settings import Settings
from contrarec.training.loop import Hooks, Metrics
from contrarec.tuning.study import load_optuna

A = TypeVar("A")
B = TypeVar("B")


class Crew(Protocol):
    """Whoever trains the trials."""

    def each(
        self, function: Callable[[A], B], jobs: Sequence[A]
    ) -> AbstractContextManager[Iterable[B]]:
        """Call a function with each of these, perhaps several at a time; answers in their order.

        The answers are there within a `with` block; whatever still runs at its end is stopped.
        """
        ...

    def train(self, settings: Settings, trial: Any, warm_up: int) -> float:
        """Train one trial, as `train_trial` does.

        Args:
            settings: with the trial's values.
            trial: of the study, which is told of every evaluation.
            warm_up: epochs before which no trial is given up.
        """
        ...


class Alone:
    """This process, one trial after the other.

    Args:
        data: with a validation set.
        device: `auto`, `cpu` or `cuda`.
    """

    def __init__(self, data: Dataset, device: str) -> None:
        self._data, self._device = data, device

    def each(
        self, function: Callable[[A], B], jobs: Sequence[A]
    ) -> AbstractContextManager[Iterable[B]]:
        """Call the function with one after the other."""
        return nullcontext(map(function, jobs))

    def train(self, settings: Settings, trial: Any, warm_up: int) -> float:  # noqa: ARG002
        """Train here; the trial's study knows when it is given up."""
        return train_trial(self._data, settings, trial, self._device)


def train_trial(data: Dataset, settings: Settings, trial: Any, device: str) -> float:
    """Train with some values and return the best validation metric.

    The trial gets `seconds` and `best_epoch` as attributes.

    Args:
        data: with a validation set.
        settings: with the trial's values.
        trial: Optuna's; it is told of every evaluation, and says when to give up.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        TrialPruned: the trial was given up.
        ConfigError: the loss became NaN or infinite.
        KeyboardInterrupt: training was interrupted.
    """
    optuna, monitor = load_optuna(), settings.training.monitor
    reported = set(trial.study.trials[trial.number].intermediate_values)

    def on_eval(epoch: int, metrics: Metrics, improved: bool) -> None:  # noqa: ARG001
        if epoch not in reported:  # by an earlier go at the same trial
            trial.report(metrics["valid"][monitor], epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    started = time.perf_counter()
    recommender = Recommender.from_settings(settings, device=device)
    try:
        recommender.fit(data, hooks=Hooks(on_eval=on_eval))
    finally:
        trial.set_user_attr("seconds", time.perf_counter() - started)
    result = recommender.result
    if result["stopped"] == "interrupted":
        raise KeyboardInterrupt
    trial.set_user_attr("best_epoch", result["best_epoch"])
    valid: float = result["metrics"]["valid"][monitor]
    return valid
