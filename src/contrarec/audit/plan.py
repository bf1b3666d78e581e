"""What is going to be audited: the sets, who is measured, how their positives are weighed."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from contrarec.audit import unbiased
from contrarec.audit.config import AuditConfig
from contrarec.audit.propensity import Propensities
from contrarec.audit.shift import (
    SHARE,
    limit_users,
    measured_sets,
    reference_of,
    split_log,
)
from contrarec.audit.weighing import set_weights
from contrarec.data.dataset import Dataset
from contrarec.data.splits import Random
from contrarec.errors import ConfigError


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """Data, the sets to measure on, and how their positives are weighed."""

    kind: str
    data: Dataset
    """With all users, as the runs know it."""
    measured: Dataset
    """With the users that are measured."""
    reference: str | None
    weights: dict[str, unbiased.Weights]
    propensities: Propensities | None


def split_data(data: Dataset, config: AuditConfig) -> Dataset:
    """Take test sets out of a log; take a validation set out of data that have none.

    Raises:
        ConfigError: shifts are asked for of data that have test sets.
        DataError: the log lacks what is asked for.
    """
    if not data.tests:
        return split_log(data, config.shifts, share=config.share, seed=config.split_seed)
    if config.shifts is not None:
        raise ConfigError(
            f"`shifts` are taken out of a log, and {data.name} has test sets already: "
            f"{', '.join(data.tests)}."
        )
    if data.valid is None:
        return data.split(valid=Random(config.share or SHARE), seed=config.split_seed)
    return data


def keep_split(data: Dataset, folder: Path) -> Dataset:
    """Write what was split off, so that the runs can be evaluated later; say where it is.

    Raises:
        ConfigError: the folder holds another split.
    """
    if not folder.exists():
        data.save(folder)
    elif Dataset.load(folder).fingerprint() != data.fingerprint():
        raise ConfigError(f"{folder}: holds another split; choose another folder for the audit.")
    return replace(data, path=str(folder.resolve()))


def make_plan(data: Dataset, config: AuditConfig, kind: str, k: int) -> Plan:
    """Decide on what is measured.

    Args:
        data: with its test sets.
        config: what was asked for.
        kind: `log`, `data` or `runs`, see `Audit`.
        k: cutoff.

    Raises:
        ConfigError: `k` is not below the number of items, or a set to weigh is not there.
        DataError: propensities cannot be had.
    """
    n_items = data.n_items if data.candidates is None else len(data.candidates)
    if k >= n_items:
        raise ConfigError(f"`k` must be below the {n_items} items that may be ranked, got {k}.")
    reference = reference_of(data)
    rng = np.random.default_rng([config.split_seed, config.max_users])
    limited = {
        name: replace(test, truth=limit_users(test.truth, config.max_users, rng))
        for name, test in measured_sets(data, reference).items()
    }
    measured = replace(
        data,
        valid=limited.pop("valid") if reference == "valid" else None,
        tests=limited,
    )
    propensities, weights = set_weights(data, measured, config, kind, reference)
    return Plan(
        kind=kind,
        data=data,
        measured=measured,
        reference=reference,
        weights=weights,
        propensities=propensities,
    )
