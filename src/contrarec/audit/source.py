"""Where an analysis gets its model: a run that has been trained, or one that it trains itself."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contrarec import runs
from contrarec.audit.pairs import View
from contrarec.audit.trace import Trace, joined, read_trace, usual_analyses
from contrarec.audit.truth import Truth
from contrarec.baselines import BASELINES
from contrarec.data.dataset import Dataset
from contrarec.data.interactions import Interactions
from contrarec.errors import ConfigError
from contrarec.model import Model, resolve_device
from contrarec.recommender import Recommender
from contrarec.settings import Settings
from contrarec.training.loop import Hooks


@dataclass(frozen=True, kw_only=True)
class Source:
    """A trained model, and what was noted while it was trained."""

    folder: Path
    settings: Settings
    about: runs.RunData
    history: Interactions
    view: View
    """The model with the weights that were kept."""
    result: dict[str, Any]
    """What training reported."""
    trace: list[dict[str, Any]]
    """A line for each evaluation; empty if nothing was attached to the training."""

    def to_dict(self) -> dict[str, Any]:
        """Return what a reader has to know about the model, ready for JSON."""
        return {
            "run": str(self.folder),
            "data": self.about.name,
            "backbone": self.settings.backbone.name,
            "loss": self.settings.loss_name,
            "seed": self.settings.seed,
            **{name: self.result[name] for name in ("best_epoch", "epochs", "stopped")},
            "settings": self.settings.to_mapping(),
        }


def open_run(folder: Path, *, device: str = "auto") -> Source:
    """Open a finished run.

    Raises:
        DataError: the folder holds no finished run, or a file is damaged.
        ConfigError: the run is a baseline's, which has no loss.
    """
    settings, about = runs.read_settings(folder)
    if settings.loss_name in BASELINES:
        raise ConfigError(
            f"{folder}: is a run of the baseline {settings.loss_name!r}, which has no vectors that "
            "a loss moved; there is nothing to analyse."
        )
    weights, history = runs.read_weights(folder), runs.read_history(folder)
    model = Model(settings, history, resolve_device(device))
    model.restore(weights, str(folder))
    return Source(
        folder=folder,
        settings=settings,
        about=about,
        history=history,
        view=View(model.backbone, model.loss),
        result=runs.read_result(folder),
        trace=read_trace(folder),
    )


def train_traced(
    data: Dataset,
    settings: Settings,
    folder: Path,
    truth: Truth | None,
    *,
    limit: int,
    device: str = "auto",
    watch: Callable[[], AbstractContextManager[Hooks | None]] = nullcontext,
) -> Source:
    """Train with the analyses attached, or go on where that was stopped; then open the run.

    A finished run in `folder` is not trained again.

    Args:
        data: the data set.
        settings: of the run.
        folder: of the run; what it holds already must be the same run.
        truth: known false negatives, if any are.
        limit: users to look at.
        device: `auto`, `cpu` or `cuda`.
        watch: surrounds training; its hooks are called along the way.

    Raises:
        ConfigError: the folder holds a run with other settings, or the settings are a baseline's.
        DataError: the folder holds a run of other data.
        KeyboardInterrupt: training was interrupted; it was saved, and the same call goes on.
    """
    if settings.loss_name in BASELINES:
        raise ConfigError(f"`loss` must not be a baseline, got {settings.loss_name!r}.")
    if runs.is_finished(folder):
        _check_same(folder, settings, data)
        return open_run(folder, device=device)
    analyses = usual_analyses(data.train, truth, limit=limit, seed=settings.seed)
    with watch() as shown:
        hooks = joined(shown, Trace(folder, analyses).hooks())
        recommender = Recommender.from_settings(settings, device=device)
        recommender.fit(data, out=folder, resume=True, hooks=hooks)
    if not runs.is_finished(folder):
        raise KeyboardInterrupt
    return open_run(folder, device=device)


def _check_same(folder: Path, settings: Settings, data: Dataset) -> None:
    theirs, about = runs.read_settings(folder)
    if theirs != settings:
        raise ConfigError(
            f"{folder}: holds a run with other settings; ask for the same, or choose another "
            "folder."
        )
    check_data(folder, about, data)


def check_data(folder: Path, about: runs.RunData, data: Dataset) -> None:
    """Raise unless a data set is the one that a run was trained on.

    Raises:
        ConfigError: it is another one.
    """
    fingerprint = data.fingerprint()
    if about.fingerprint != fingerprint:
        raise ConfigError(
            f"{folder}: was trained on other data (fingerprint {about.fingerprint}, got "
            f"{fingerprint} of {data.path or data.name})."
        )
