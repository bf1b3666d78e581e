"""A baseline in the place of a model: nothing to train, no backbone."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from contrarec.baselines import BASELINES, Baseline
from contrarec.data.interactions import Interactions
from contrarec.errors import ConfigError, DataError
from contrarec.evaluation.ranking import Scorer
from contrarec.settings import Settings
from contrarec.training.loop import Hooks, Outcome
from contrarec.training.metrics_log import MetricsLog


class FittedModel:
    """What `Model` is, for a baseline: it is empty until `fit` or `restore`.

    Args:
        settings: whose loss is a baseline.
        history: training interactions; their vocabularies are the model's.
    """

    def __init__(self, settings: Settings, history: Interactions) -> None:
        self.history = history
        self._settings = settings
        self._kind = BASELINES[settings.loss_name].baseline
        self._baseline: Baseline | None = None

    def check(self) -> None:
        """Raise if fitting is not going to work, before a run begins."""
        self._kind.check(self.history, self._settings.loss)

    def fit(self) -> Outcome:
        """Fit to the history."""
        started = time.perf_counter()
        rng = np.random.default_rng(self._settings.seed)
        self._baseline = self._kind.fit(self.history, self._settings.loss, rng)
        seconds = time.perf_counter() - started
        return Outcome(best_epoch=0, epochs=0, seconds=seconds, stopped="fitted")

    def weights(self) -> dict[str, torch.Tensor]:
        """Return everything that `restore` needs."""
        return self._fitted().tensors

    def restore(self, weights: dict[str, torch.Tensor], where: str) -> None:
        """Put back what was fitted.

        Raises:
            DataError: the weights are another model's; `where` starts the message.
        """
        try:
            self._baseline = self._kind(weights, self.history, self._settings.loss)
        except DataError as error:
            raise DataError(f"{where}: the weights do not fit its settings ({error}).") from error

    def scorer(self) -> Scorer:
        """Return the scorer of all items for the model's users."""
        return self._fitted().scorer()

    def vectors(self) -> None:
        """Return None: a baseline's scores are no dot products of two tables."""

    def similar(self) -> Scorer:
        """Return the scorer of all items for an item."""
        return self._fitted().similar()

    def fold_in_scorer(self, history: Interactions) -> Scorer:
        """Return the scorer of all items for users never seen."""
        return self._fitted().fold_in(history)

    def folding(self) -> Callable[[Interactions], Scorer]:
        """Return `fold_in_scorer` for many calls."""
        return self._fitted().fold_in

    def _fitted(self) -> Baseline:
        if self._baseline is None:
            raise ConfigError("nothing has been fitted yet: call `fit` first.")
        return self._baseline


def log_fit(result: dict[str, Any], folder: Path | None, hooks: Hooks | None) -> None:
    """Write the only line of a baseline's log, with epoch 0, and call the hooks.

    Args:
        result: what is reported of the run.
        folder: the run's, if it has one.
        hooks: `on_eval` and `on_epoch` are called once.
    """
    line = {"epoch": 0} | {name: result[name] for name in ("metrics", "seconds")}
    if folder:
        MetricsLog(folder / "metrics.jsonl", 0).append(line)
    if hooks and hooks.on_eval:
        hooks.on_eval(0, result["metrics"], True)
    if hooks and hooks.on_epoch:
        hooks.on_epoch(line)
