"""One study: trials of a method on a backbone, kept in SQLite by Optuna.

What a trial tries is a function of the seed, its number and the finished trials before it, so a
study that was stopped goes on as if it had not been. A trial that was under way is run again, with
the values that it had.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from contrarec.errors import BackendError, ConfigError
from contrarec.tuning.spaces import Space

RANDOM_TRIALS = 5
"""Trials before the sampler learns from those before, and before any is pruned."""
RIVALS = 3
"""Trials that must have been measured at an epoch for their median to end another there."""
_PATIENCE = 60.0  # seconds to wait while another study of the file is written

Objective = Callable[[Any, dict[str, Any]], float]
"""(Optuna trial, values by setting) → the validation metric; raises `TrialPruned` to give up."""


def load_optuna() -> Any:
    """Import Optuna, made quiet.

    Raises:
        BackendError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise BackendError(
            f"tuning needs the package optuna: pip install 'contrarec[tune]' ({error})."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


@contextmanager
def open_storage(path: Path) -> Iterator[Any]:
    """Open the SQLite file of studies, making it if it is not there."""
    storage = load_optuna().storages.RDBStorage(
        f"sqlite:///{path.absolute()}", engine_kwargs={"connect_args": {"timeout": _PATIENCE}}
    )
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def search(
    storage: Any,
    name: str,
    space: Space,
    objective: Objective,
    *,
    identity: Mapping[str, Any],
    start: Mapping[str, Any],
    n_trials: int,
    seed: int,
    warm_up: int,
    on_trial: Callable[[Any], None] | None = None,
) -> list[Any]:
    """Run trials until there are `n_trials`, going on with those of the storage.

    A trial that fails with a ConfigError, such as a diverged one, counts, as a bad one.

    Args:
        storage: from `open_storage`.
        name: of the study.
        space: what is searched.
        objective: trains with some values.
        identity: what must be equal in the call that made the study, as plain values.
        start: the values of the first trial, as far as they are given.
        n_trials: how many there are to be in the end.
        seed: base of the sampler's random numbers.
        warm_up: epochs before which no trial is given up.
        on_trial: called with each trial after its end.

    Returns:
        The finished trials, in order.

    Raises:
        ConfigError: the storage holds a study of that name with another identity.
    """
    optuna = load_optuna()
    states = optuna.trial.TrialState
    study = optuna.create_study(
        storage=storage, study_name=name, direction="maximize", load_if_exists=True,
        pruner=_pruner(warm_up),
    )  # fmt: skip
    _check_identity(study, identity)
    if not study.get_trials(deepcopy=False):
        study.enqueue_trial(dict(start))
    while True:
        trials = study.get_trials(deepcopy=False)
        finished = [trial for trial in trials if trial.state.is_finished()]
        if len(finished) >= n_trials:
            return finished
        study.sampler = optuna.samplers.TPESampler(
            n_startup_trials=RANDOM_TRIALS,
            multivariate=True,
            constant_liar=False,
            seed=int(np.random.SeedSequence([seed, len(finished)]).generate_state(1)[0]),
        )
        begun = [trial for trial in trials if trial.state == states.RUNNING]
        trial = optuna.trial.Trial(study, begun[0]._trial_id) if begun else study.ask()
        values = {key: choices.suggest(trial, key) for key, choices in space.items()}
        try:
            done = study.tell(trial, objective(trial, values))
        except optuna.TrialPruned:
            done = study.tell(trial, state=states.PRUNED)
        except ConfigError as error:
            trial.set_user_attr("error", str(error))
            done = study.tell(trial, state=states.PRUNED)
        if on_trial:
            on_trial(done)


def stand_in(earlier: Sequence[Any], warm_up: int) -> Any:
    """Make a trial outside any file that is given up where the next one of a study would be.

    Args:
        earlier: the study's complete trials, from `complete_trials`.
        warm_up: epochs before which no trial is given up.
    """
    optuna = load_optuna()
    study = optuna.create_study(direction="maximize", pruner=_pruner(warm_up))
    study.add_trials(earlier)
    return study.ask()


def complete_trials(trial: Any) -> list[Any]:
    """Return the complete trials of a trial's study, which decide whether it is given up."""
    state = load_optuna().trial.TrialState.COMPLETE
    trials: list[Any] = trial.study.get_trials(deepcopy=False, states=(state,))
    return trials


def _pruner(warm_up: int) -> Any:
    return load_optuna().pruners.MedianPruner(
        n_startup_trials=RANDOM_TRIALS, n_warmup_steps=warm_up, n_min_trials=RIVALS
    )


def _check_identity(study: Any, identity: Mapping[str, Any]) -> None:
    identity = json.loads(json.dumps(dict(identity)))  # lists for tuples, as the storage has them
    known = study.user_attrs.get("identity")
    if known is None:
        study.set_user_attr("identity", identity)
        return
    for name, value in identity.items():
        if known[name] != value:
            raise ConfigError(
                f"its study {study.study_name!r} was made with other {name}; ask for the same or "
                "choose another folder."
            )
