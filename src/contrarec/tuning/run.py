"""Tune methods: as many trials for each, the test sets out of reach, the winners as a preset."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from contrarec.comparison.run import own_overrides
from contrarec.config import NO_BACKBONE
from contrarec.data.dataset import Dataset
from contrarec.errors import ConfigError, DataError
from contrarec.files import write_text
from contrarec.methods import choose_methods
from contrarec.model import resolve_device
from contrarec.recommender import given_features
from contrarec.settings import Settings, locate_setting, resolve_settings
from contrarec.tuning.result import Finding, Tuning
from contrarec.tuning.spaces import Space, search_space
from contrarec.tuning.study import load_optuna, open_storage, search
from contrarec.tuning.trials import Alone, Crew

WARM_UP = 10
"""Evaluations before a trial may be given up."""
STORAGE, PRESET = "tuning.db", "preset.toml"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial that has come to its end."""

    backbone: str
    method: str
    number: int
    """From 1."""
    total: int
    monitor: str
    valid: float | None
    """The best value of the metric; None where training failed."""
    outcome: str
    """`complete`, `pruned`, or why it failed."""


@dataclass(frozen=True, kw_only=True)
class _Job:
    backbone: str
    method: str
    settings: Settings
    space: Space
    build: Callable[[Mapping[str, Any]], Settings]
    """Makes the settings of a trial from the values that are searched."""

    @property
    def name(self) -> str:
        return f"{self.backbone}-{self.method}"

    @property
    def start(self) -> dict[str, Any]:
        """What would be without tuning, as far as it lies within the space."""
        tables = self.settings.to_mapping()
        usual = {key: tables[key.partition(".")[0]][key.partition(".")[2]] for key in self.space}
        return {key: value for key, value in usual.items() if value in self.space[key]}


def tune(
    data: Dataset,
    methods: Sequence[str],
    backbones: Sequence[str] = ("mf",),
    *,
    trials: int = 30,
    seed: int = 0,
    out: str | Path,
    preset: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    device: str = "auto",
    on_trial: Callable[[Trial], None] | None = None,
    crew: Callable[[Dataset], AbstractContextManager[Crew]] | None = None,
) -> Tuning:
    """Search the settings of each method on each backbone, and write the winners as a preset.

    Only the validation set is looked at, to judge a trial and to give it up. The first trial has
    the values that would be used without tuning, as far as they lie within the search space. What
    is found depends on the arguments alone; the same call goes on where an earlier one stopped. The
    preset grows with every method that is through.

    Args:
        data: with a validation set; test sets are dropped before anything is trained.
        methods: names, patterns such as `infonce*`, or `all`.
        backbones: by name; each method is tuned on those of them that it goes with.
        trials: for each method on each backbone.
        seed: of every training, and of the search.
        out: folder of `tuning.db`, which remembers all trials, and of `preset.toml`.
        preset: settings to start from, by name or as a file.
        overrides: settings by name, as for `contrarec.comparison.compare`; one that is given is
            not searched.
        device: `auto`, `cpu` or `cuda`.
        on_trial: called after each trial.
        crew: makes who trains the trials on these data in the place of this process, such as
            workers elsewhere, who may search several methods at a time.

    Raises:
        ConfigError: a name or setting is unknown, the folder holds a search of something else, or
            no trial of a method came to its end; then the preset has the others.
        DataError: the data have no validation set.
        BackendError: Optuna is not installed.
        KeyboardInterrupt: training was interrupted; the same call goes on.
    """
    load_optuna()
    if crew is None:
        resolve_device(device)
    chosen = choose_methods(methods, backbones)
    if trials < 1:
        raise ConfigError(f"`trials` must be at least 1, got {trials}.")
    if data.valid is None:
        raise DataError(f"{data.name}: nothing to tune on, the data have no validation set.")
    data = replace(data, tests={})
    jobs = [
        _job(backbone, method, (*backbones, *chosen), preset, overrides or {}, seed)
        for backbone in (*backbones, NO_BACKBONE)
        for method, fitting in chosen.items()
        if backbone in fitting
    ]
    folder, failures = Path(out), list[str]()
    tuning = Tuning(
        data=data.name,
        fingerprint=data.fingerprint(),
        methods=tuple(chosen),
        backbones=tuple(backbones),
        trials=trials,
        seed=seed,
        preset=None if preset is None else str(preset),
        overrides=dict(overrides or {}),
        monitor=jobs[0].settings.training.monitor,
        findings=(),
    )
    with ExitStack() as stack:
        own = crew(data) if crew else nullcontext(Alone(data, device))
        trainers: Crew = stack.enter_context(own)
        stack.enter_context(_naming(folder))
        folder.mkdir(parents=True, exist_ok=True)
        storage = stack.enter_context(open_storage(folder / STORAGE))
        look = partial(_search, storage, data, trainers, trials=trials, seed=seed)
        found = stack.enter_context(trainers.each(partial(look, on_trial=on_trial), jobs))
        for job, finished in zip(jobs, found, strict=True):
            finding = _finding(job, finished[:trials])
            if finding:
                tuning = replace(tuning, findings=(*tuning.findings, finding))
                write_text(folder / PRESET, tuning.to_preset())
            else:
                reason = finished[-1].user_attrs.get("error", "")
                failures.append(f"{job.backbone} {job.method}: no trial came to its end; {reason}")
    if failures:
        raise ConfigError(" ".join(failures))
    return tuning


@contextmanager
def _naming(folder: Path) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{folder}: {error}") from error


def _job(
    backbone: str,
    method: str,
    names: tuple[str, ...],
    preset: str | Path | None,
    overrides: Mapping[str, Any],
    seed: int,
) -> _Job:
    own = own_overrides(overrides, (backbone, method), names)

    def build(values: Mapping[str, Any]) -> Settings:
        return resolve_settings(
            backbone=backbone, loss=method, preset=preset, overrides=own | dict(values), seed=seed
        )

    settings = build({})
    fixed = {locate_setting(key, method) for key in own}
    space = {key: part for key, part in search_space(method).items() if key not in fixed}
    return _Job(backbone=backbone, method=method, settings=settings, space=space, build=build)


def _search(
    storage: Any,
    data: Dataset,
    crew: Crew,
    job: _Job,
    *,
    trials: int,
    seed: int,
    on_trial: Callable[[Trial], None] | None,
) -> list[Any]:
    """Search the settings of one method; return its finished trials."""
    features = given_features(job.settings.backbone, data)
    warm_up = WARM_UP * job.settings.training.eval_every

    def train(trial: Any, values: dict[str, Any]) -> float:
        return crew.train(job.build(values), trial, warm_up)

    return search(
        storage,
        job.name,
        job.space,
        train,
        identity={
            "settings": job.settings.to_toml(),
            "data": _digest(data),
            "search space": {key: asdict(part) for key, part in job.space.items()},
        }
        | ({} if features is None else {"item vectors": features.fingerprint()}),
        start=job.start,
        n_trials=trials if job.space else 1,
        seed=seed,
        warm_up=warm_up,
        on_trial=partial(_report, job, trials, on_trial) if on_trial else None,
    )


def _finding(job: _Job, finished: Sequence[Any]) -> Finding | None:
    # not by its value: a pruned trial has one, the last that it reported
    complete = [trial for trial in finished if trial.state.name == "COMPLETE"]
    if not complete:
        return None
    best = max(complete, key=lambda trial: trial.value)  # the first of those that are equal
    return Finding(
        backbone=job.backbone,
        method=job.method,
        trial=best.number,
        valid=best.value,
        best_epoch=best.user_attrs["best_epoch"],
        values=best.params,
        trials=len(finished),
        pruned=len(finished) - len(complete),
        seconds=sum(trial.user_attrs["seconds"] for trial in finished),
        settings=job.build(best.params),
    )


def _report(job: _Job, total: int, on_trial: Callable[[Trial], None], trial: Any) -> None:
    failed = trial.user_attrs.get("error")
    outcome = trial.state.name.lower()
    on_trial(
        Trial(
            backbone=job.backbone,
            method=job.method,
            number=trial.number + 1,
            total=total,
            monitor=job.settings.training.monitor,
            valid=max(trial.intermediate_values.values(), default=None),
            outcome=f"failed: {failed}" if failed else outcome,
        )
    )


def _digest(data: Dataset) -> str:
    """Hash what a search depends on: ids, training and validation pairs."""
    digest = hashlib.sha256(data.fingerprint().encode())
    parts = (data.valid.truth, data.valid.mask) if data.valid else ()
    for part in parts:
        for array in (part.indptr, part.indices) if part is not None else ():
            digest.update(array.tobytes())
    return digest.hexdigest()[:16]
