"""Audit a log or trained runs: how much quality is lost when popularity shifts, and by whom least.

Runs are trained as in a comparison: each has a folder, what is finished is not trained again, what
was stopped goes on.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from contrarec.audit.assemble import measure_all
from contrarec.audit.config import AuditConfig
from contrarec.audit.plan import keep_split, make_plan, split_data
from contrarec.audit.result import Audit
from contrarec.audit.subjects import subjects_of_jobs, subjects_of_runs
from contrarec.comparison.run import Watch, plan_jobs, same_metrics, train_jobs
from contrarec.data.dataset import Dataset
from contrarec.errors import ConfigError, DataError
from contrarec.methods import choose_methods

METHODS = ("infonce", "advinfonce", "bpr", "popularity")
BACKBONES = ("mf",)
ADVERSARIES = ("advinfonce", "advinfonce-mlp", "advinfonce-budget")
HEADLINE = ("recall", "ndcg")
DATA_FOLDER = "data"


def default_training(n_train: int) -> dict[str, Any]:
    """Return what an audit trains with, unless a preset or the user says otherwise.

    The same for all methods: about a hundred steps an epoch, at least 20 epochs and about 2,000
    steps, stopped early. Enough to compare methods, not each one's best.

    Args:
        n_train: training interactions.

    >>> default_training(200_000)
    {'batch_size': 2048, 'lr': 0.002, 'epochs': 21, 'eval_every': 2, 'patience': 3}
    """
    batch = 2 ** round(np.log2(max(n_train / 100, 1)))
    batch = int(min(max(batch, 256), 8192))
    epochs = min(max(20, math.ceil(2000 / math.ceil(n_train / batch))), 300)
    return {
        "batch_size": batch,
        "lr": 2e-3,
        "epochs": epochs,
        "eval_every": epochs // 10,
        "patience": 3,
    }


def adversary_training(
    n_train: int, training: Mapping[str, Any], methods: Iterable[str]
) -> dict[str, Any]:
    """Return what the methods with an adversary train with beside the rest.

    Its turns, twelve unless told, are over by the middle of the epochs, so that training does not
    stop before them. Its step size times the steps of a turn is .01, as published for Coat.

    Args:
        n_train: training interactions.
        training: how all are trained; what it sets is left out here.
        methods: that are trained.

    >>> adversary_training(200_000, default_training(200_000), ["bpr", "advinfonce"])
    {'advinfonce.adv_interval': 1, 'advinfonce.adv_lr': 0.000102}
    """
    steps = math.ceil(n_train / training["batch_size"])
    usual = {
        "adv_interval": max(1, training["epochs"] // 25),
        "adv_lr": round(0.01 / steps, 6),
    }
    return {
        f"{method}.{name}": value
        for method in methods
        if method in ADVERSARIES
        for name, value in usual.items()
        if name not in training
    }


def audit_log(
    data: Dataset,
    methods: Sequence[str] = METHODS,
    backbones: Sequence[str] = BACKBONES,
    seeds: Sequence[int] = (0,),
    *,
    out: str | Path,
    config: AuditConfig | None = None,
    preset: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    device: str = "auto",
    watch: Watch | None = None,
) -> Audit:
    """Split a log, train the methods on what is left, and see what a shift costs each of them.

    Args:
        data: a log, from which shifted test sets are taken (and kept in `out/data`); or data that
            have test sets, which are measured as they are.
        methods: as for `comparison.compare`.
        backbones: by name.
        seeds: each method is trained once with each.
        out: folder of the run folders.
        config: what is measured.
        preset: published settings, or a preset file, in the place of `default_training`.
        overrides: settings by name, as for `comparison.compare`.
        device: `auto`, `cpu` or `cuda`.
        watch: surrounds each run; the hooks it gives go to its training.

    Raises:
        ConfigError: a name or setting is unknown, `out` holds other runs, or training failed.
        DataError: the data are too few, or lack what was asked for.
        KeyboardInterrupt: training was interrupted; it was saved, and the same call goes on.
    """
    config = config or AuditConfig()
    kind = "data" if data.tests else "log"
    given, data = data, split_data(data, config)
    training = {"ks": [config.k], "monitor": f"{HEADLINE[0]}@{config.k}"}
    if preset is None:
        training |= default_training(data.train.nnz)
    training |= overrides or {}
    if preset is None:
        chosen = choose_methods(methods, backbones)
        training = adversary_training(data.train.nnz, training, chosen) | training
    _, jobs = plan_jobs(data, methods, backbones, seeds, out=out, preset=preset, overrides=training)
    _, headline = same_metrics(jobs)
    plan = make_plan(data, config, kind, int(headline[0].partition("@")[2]))
    if data is not given:
        data = keep_split(data, Path(out) / DATA_FOLDER)
    for _ in train_jobs(jobs, data, device=device, watch=watch):
        pass
    settings = {
        "methods": list(dict.fromkeys(job.method for job in jobs)),
        "backbones": list(backbones),
        "seeds": list(seeds),
        "preset": None if preset is None else str(preset),
        "training": training,
    }
    return measure_all(plan, subjects_of_jobs(jobs), headline, config, settings, device)


def audit_runs(
    folders: Sequence[str | Path],
    data: Dataset,
    *,
    config: AuditConfig | None = None,
    device: str = "auto",
) -> Audit:
    """Measure finished runs on the test sets of the data that all of them were trained on.

    Runs that differ in nothing but their seed are one method.

    Args:
        folders: of the runs.
        data: what they were trained on, with its test sets.
        config: what is measured.
        device: where scores are computed.

    Raises:
        DataError: a folder is not a finished run or of other data, or there is no test set.
        ConfigError: a run is given twice.
    """
    config = config or AuditConfig()
    paths = [Path(folder) for folder in folders]
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError(f"runs must be different, got {', '.join(map(str, paths))}.")
    if not data.tests:
        raise DataError(f"{data.name}: no test set to audit {paths[0]} on; audit the log itself.")
    subjects = subjects_of_runs(paths, data.fingerprint())
    plan = make_plan(data, config, "runs", config.k)
    headline = tuple(f"{kind}@{config.k}" for kind in HEADLINE)
    return measure_all(plan, subjects, headline, config, {"runs": list(map(str, paths))}, device)
