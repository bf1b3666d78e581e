"""Compare losses fairly: the same data, backbones and seeds, a folder per run, one table.

A comparison is resumable. Run folders are called `<backbone>-<method>-<seed>`: what is finished is
not trained again, what was stopped goes on, and a folder that holds a run with other settings or
of other data is refused before anything is trained.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from contrarec import runs
from contrarec.comparison.measure import (
    FLIPS,
    HEADLINE,
    RESAMPLES,
    Measured,
    contrasts,
    measure,
    summarise,
)
from contrarec.comparison.table import Comparison
from contrarec.config import NO_BACKBONE, BackboneConfig
from contrarec.data.dataset import Dataset
from contrarec.errors import ConfigError, DataError
from contrarec.methods import choose_methods
from contrarec.recommender import Recommender, given_features
from contrarec.settings import Settings, resolve_settings, without_idle
from contrarec.training.loop import Hooks


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a comparison."""

    backbone: str
    method: str
    seed: int
    folder: Path
    number: int
    """Position among all runs, from 1."""
    total: int
    finished: bool
    """Whether it was found finished, and is not trained again."""
    settings: Settings = field(repr=False)


Watch = Callable[[Job], AbstractContextManager[Hooks | None]]
"""Surrounds a run; the hooks it gives go to its training."""

Trainer = Callable[[Sequence[Job], Dataset, tuple[int, ...], tuple[str, ...]], Iterator[Job]]
"""Trains runs that are not finished on data, and yields all in their order.

It may measure them, too: it is told the cutoffs and the metrics that are tested."""


def compare(
    data: Dataset,
    methods: Sequence[str],
    backbones: Sequence[str] = ("mf",),
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    *,
    out: str | Path,
    preset: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    device: str = "auto",
    watch: Watch | None = None,
    trainer: Trainer | None = None,
) -> Comparison:
    """Train every (backbone, method, seed) that is not finished, evaluate all, make the table.

    Args:
        data: with at least one test set; its validation set stops training.
        methods: losses and baselines by name, patterns such as `infonce*`, or `all`; the first is
            what the table tests the others against.
        backbones: by name; each method is run on those of them that it goes with, a baseline once.
        seeds: each method is trained once with each.
        out: folder of the run folders.
        preset: published settings, or a preset file; backbone and method pick their row.
        overrides: settings by name, for all runs; `advinfonce.adv_lr` or `lightgcn.n_layers` is for
            the runs of that method or backbone alone. A baseline takes those that mean something
            to it.
        device: `auto`, `cpu` or `cuda`.
        watch: surrounds each run; the hooks it gives go to its training.
        trainer: who trains the runs in the place of this process, such as workers elsewhere; then
            `watch` is not asked.

    Returns:
        The comparison of what was asked for, whatever else is in `out`; its `save` writes it.

    Raises:
        ConfigError: a name or setting is unknown, a folder holds a run with other settings, or
            training failed; the message names the folder.
        DataError: the data have no test set, or a folder holds a run of other data.
        KeyboardInterrupt: training was interrupted; it was saved, and the same call goes on.
    """
    if not data.tests:
        raise DataError(f"{data.name}: nothing to compare on, the data have no test set.")

    chosen, jobs = plan_jobs(
        data, methods, backbones, seeds, out=out, preset=preset, overrides=overrides
    )
    ks, headline = same_metrics(jobs)
    found: dict[tuple[str, str], list[Measured]] = {}
    trained = (
        trainer(jobs, data, ks, headline)
        if trainer
        else train_jobs(jobs, data, device=device, watch=watch)
    )
    for job in trained:
        run = measure(job.folder, data, ks, headline, device)
        found.setdefault((job.backbone, job.method), []).append(run)
    first = next(iter(found.values()))[0].per_user
    return Comparison(
        data=data.name,
        fingerprint=data.fingerprint(),
        preset=None if preset is None else str(preset),
        overrides=dict(overrides or {}),
        methods=chosen,
        backbones=tuple(backbones),
        seeds=tuple(seeds),
        monitor=jobs[0].settings.training.monitor,
        headline=headline,
        n_users={name: len(first[name, headline[0]]) for name in data.tests},
        n_resamples=RESAMPLES,
        n_flips=FLIPS,
        rows=tuple(summarise(pair, seeds, measured) for pair, measured in found.items()),
        contrasts=tuple(contrasts(found, backbones, chosen)),
    )


def plan_jobs(
    data: Dataset,
    methods: Sequence[str],
    backbones: Sequence[str],
    seeds: Sequence[int],
    *,
    out: str | Path,
    preset: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> tuple[tuple[str, ...], list[Job]]:
    """Look at every name, setting and folder of a comparison before anything is trained.

    Args:
        data: what the runs are trained on.
        methods: as for `compare`, and so are the others.
        backbones: by name.
        seeds: each method is trained once with each.
        out: folder of the run folders.
        preset: published settings, or a preset file.
        overrides: settings by name.

    Returns:
        The methods in their order, and the runs.

    Raises:
        ConfigError: a name or setting is unknown, or a folder holds a run with other settings.
        DataError: a folder holds a run of other data.
    """
    chosen = choose_methods(methods, backbones)
    pairs = dict.fromkeys(
        (NO_BACKBONE if NO_BACKBONE in fitting else backbone, method)
        for backbone in backbones
        for method, fitting in chosen.items()
        if {backbone, NO_BACKBONE} & set(fitting)
    )
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"`seeds` must be different and at least one, got {list(seeds)}.")
    fingerprint, jobs = data.fingerprint(), list[Job]()
    vectors = dict[BackboneConfig, str]()
    for (backbone, method), seed in product(pairs, seeds):
        own = own_overrides(overrides or {}, (backbone, method), (*backbones, *chosen))
        settings = resolve_settings(
            backbone=backbone, loss=method, preset=preset, overrides=own, seed=seed
        )
        folder = run_folder(Path(out), backbone, method, seed)
        if settings.backbone not in vectors:
            features = given_features(settings.backbone, data)
            vectors[settings.backbone] = "" if features is None else features.fingerprint()
        _check_folder(folder, settings, fingerprint, vectors[settings.backbone])
        job = Job(
            backbone=backbone,
            method=method,
            seed=seed,
            folder=folder,
            number=len(jobs) + 1,
            total=len(pairs) * len(seeds),
            finished=runs.is_finished(folder),
            settings=settings,
        )
        jobs.append(job)
    return tuple(chosen), jobs


def run_folder(out: Path, backbone: str, method: str, seed: int) -> Path:
    """Return where a comparison in `out` keeps a run."""
    return out / f"{backbone}-{re.sub(r'[^A-Za-z0-9_-]+', '_', method)}-{seed}"


def train_jobs(
    jobs: Sequence[Job], data: Dataset, *, device: str = "auto", watch: Watch | None = None
) -> Iterator[Job]:
    """Train what is not finished, one run after the other, and yield each when it is.

    Args:
        jobs: the runs, as `plan_jobs` made them.
        data: what they are trained on; its test sets are not looked at.
        device: `auto`, `cpu` or `cuda`.
        watch: surrounds each run; the hooks it gives go to its training.

    Raises:
        ConfigError: training failed; the message names the folder.
        KeyboardInterrupt: training was interrupted; it was saved, and the same call goes on.
    """
    data = replace(data, tests={})  # they are measured once, when a run is through
    for job in jobs:
        with watch(job) if watch else nullcontext() as hooks:
            if not job.finished:
                recommender = Recommender.from_settings(job.settings, device=device)
                try:
                    recommender.fit(data, out=job.folder, resume=True, hooks=hooks)
                except ConfigError as error:  # the loss became NaN, say
                    raise ConfigError(f"{job.folder}: {error}") from error
        if not runs.is_finished(job.folder):
            raise KeyboardInterrupt
        yield job


def own_overrides(
    overrides: Mapping[str, Any], job: tuple[str, ...], names: tuple[str, ...]
) -> dict[str, Any]:
    """Return the settings for one (backbone, method), those under its own name last.

    Args:
        overrides: by setting, or by `<method or backbone>.<setting>`.
        job: the backbone's name and the method's, and any other that it goes by.
        names: of all backbones and methods.
    """
    general, own = dict[str, Any](), dict[str, Any]()
    for key, value in overrides.items():
        scope = next((name for name in names if key.startswith(f"{name}.")), None)
        if scope is None:
            general[key] = value
        elif scope in job:
            own[key.removeprefix(f"{scope}.")] = value
    return without_idle(general, job[1]) | own


def _check_folder(folder: Path, wanted: Settings, fingerprint: str, features: str) -> None:
    if not runs.is_started(folder):
        return
    settings, data = runs.read_settings(folder)
    theirs, ours = _flat(settings.to_mapping()), _flat(wanted.to_mapping())
    for name in (*ours, *theirs):
        if theirs.get(name) != ours.get(name):
            raise ConfigError(
                f"{folder}: holds a run with `{name}` = {theirs.get(name)} and "
                f"{ours.get(name)} was asked for; ask for the same or choose another folder."
            )
    if data.fingerprint != fingerprint:
        raise DataError(
            f"{folder}: holds a run of other data (fingerprint {data.fingerprint}, got "
            f"{fingerprint}); choose another folder."
        )
    if data.features != features:
        raise DataError(
            f"{folder}: holds a run with other item vectors than those in "
            f"{wanted.backbone.features} now; choose another folder."
        )


def _flat(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        name = prefix + key
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def same_metrics(jobs: Sequence[Job]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the cutoffs of all runs, and the metrics that are tested."""
    configs = {(job.settings.training.ks, job.settings.training.monitor) for job in jobs}
    if len(configs) > 1:
        raise ConfigError(
            f"`ks` and `monitor` must be the same for all runs, got {sorted(configs)}."
        )
    ks, monitor = configs.pop()
    cutoff = monitor.partition("@")[2]
    return ks, tuple(f"{kind}@{cutoff}" for kind in HEADLINE)
