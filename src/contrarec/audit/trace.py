"""Analyses over training: a line for each evaluation, kept beside the run.

Attached to a run, a trace looks at the model before the first step and whenever it is evaluated,
and appends what each analysis finds to `analysis.jsonl` in the run's folder. A resumed run drops
what its checkpoint does not know and goes on.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from contrarec.audit.false_negatives import eligible_users, find_false_negatives
from contrarec.audit.geometry import measure_geometry
from contrarec.audit.hardness import measure_hardness
from contrarec.audit.pairs import Pairs, View
from contrarec.audit.truth import Truth
from contrarec.backbones import Backbone
from contrarec.data.interactions import Interactions
from contrarec.losses import Loss
from contrarec.training.loop import Hooks, Metrics
from contrarec.training.metrics_log import MetricsLog, read_log

FILE = "analysis.jsonl"
USERS = 3000
"""Users that an analysis looks at, if not told otherwise."""

Analysis = Callable[[View], dict[str, Any]]


def usual_analyses(
    history: Interactions, truth: Truth | None, *, limit: int = USERS, seed: int = 0
) -> dict[str, Analysis]:
    """Return the analyses that a trace makes: hardness, geometry and, with a truth, the third.

    Args:
        history: the training interactions.
        truth: the known false negatives, if any are.
        limit: users to look at.
        seed: decides which.
    """
    counts = history.item_counts
    found: dict[str, Analysis] = {
        "hardness": lambda view: measure_hardness(
            view, candidates(history, limit=limit, seed=seed), counts
        ).to_dict(),
        "geometry": lambda view: dict(measure_geometry(view, history, seed=seed)),
    }
    if truth is not None:
        pairs = judged(truth, limit=limit, seed=seed)
        found["false_negatives"] = lambda view: find_false_negatives(
            view, pairs, truth.false, counts, seed=seed
        ).to_dict(contrasts=False, seed=seed)
    return found


def candidates(history: Interactions, *, limit: int, seed: int) -> Pairs:
    """Draw users with a training history, and take all that they have not interacted with."""
    eligible = (history.user_counts > 0).nonzero()[0]
    return Pairs.draw(eligible, history, limit=limit, seed=seed)


def judged(truth: Truth, *, limit: int, seed: int) -> Pairs:
    """Draw users with a known false negative, and take all candidates that can be judged."""
    eligible = eligible_users(truth.false, truth.left_out, truth.history)
    return Pairs.draw(eligible, truth.left_out, limit=limit, seed=seed)


class Trace:
    """Looks at a model while it is trained.

    Args:
        folder: the run's folder.
        analyses: by name; those of a loss that weighs all negatives alike are left out, except
            `geometry`.
    """

    def __init__(self, folder: Path, analyses: Mapping[str, Analysis]) -> None:
        self._path, self._analyses = folder / FILE, analyses
        self._model: tuple[Backbone, Loss] | None = None
        self._log: MetricsLog | None = None

    def hooks(self) -> Hooks:
        """Return the hooks to train with."""
        return Hooks(on_start=self._on_start, on_eval=self._on_eval)

    def _on_start(self, backbone: Backbone, loss: Loss, epoch: int) -> None:
        self._model = backbone, loss
        before = [line for line in read_log(self._path) if line["epoch"] == 0]
        self._log = MetricsLog(self._path, epoch)
        if before and epoch == 0:  # stopped within the first epoch
            self._log.append(before[0])
        elif epoch == 0:
            self._look(0)

    def _on_eval(self, epoch: int, metrics: Metrics, improved: bool) -> None:
        self._look(epoch, metrics=metrics, best=improved)

    def _look(self, epoch: int, **about: Any) -> None:
        if self._model is None or self._log is None:
            return
        view = View(*self._model)
        chosen = self._analyses if view.weighs else {"geometry": self._analyses["geometry"]}
        found = {name: analyse(view) for name, analyse in chosen.items()}
        self._log.append({"epoch": epoch, **about, **found})


def read_trace(folder: Path) -> list[dict[str, Any]]:
    """Read what a trace kept with a run; empty if there was none."""
    return read_log(folder / FILE)


def joined(*several: Hooks | None) -> Hooks:
    """Call the hooks of several at once, in order."""

    def all_of(name: str) -> Callable[..., None] | None:
        calls = [call for hooks in several if (call := getattr(hooks, name, None)) is not None]

        def call_all(*arguments: Any) -> None:
            for call in calls:
                call(*arguments)

        return call_all if calls else None

    return Hooks(**{name: all_of(name) for name in ("on_start", "on_step", "on_epoch", "on_eval")})
