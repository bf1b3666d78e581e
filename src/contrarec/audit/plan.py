"""What is going to be audited: the sets, who is measured, how their positives are weighed."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from contrarec.audit import unbiased
from contrarec.audit.propensity import (
    GAMMA,
    Propensities,
    column_propensities,
    log_counts,
    power_law,
    read_propensities,
)
from contrarec.audit.shift import (
    SHARE,
    limit_users,
    measured_sets,
    reference_of,
    split_log,
)
from contrarec.config import require
from contrarec.data.dataset import Dataset
from contrarec.data.splits import Random
from contrarec.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """What is measured, and on what."""

    k: int = 20
    """Cutoff of every figure."""
    shifts: tuple[str, ...] | None = None
    """Test sets to take out of a log, see `shift.split_log`."""
    share: float | None = None
    """Share of a log in each test set and in the validation set; see `shift.split_log`."""
    split_seed: int = 0
    """Decides what is random about the sets."""
    max_users: int = 50_000
    """Users measured of each set, drawn at random if it has more."""
    propensities: Path | None = None
    """File with the propensities of items or pairs; None estimates them from popularity."""
    column: str | None = None
    """Column of the log that was read as weights and holds propensities."""
    gamma: float = GAMMA
    """γ of the power law by which propensities are estimated."""
    clip: float = unbiased.CLIP
    """Smaller propensities count as this."""
    weighed: tuple[str, ...] | None = None
    """Sets that are a random part of the log, to which propensities are applied; the
    in-distribution set if None."""

    def __post_init__(self) -> None:
        require(self.k >= 1, "k", "be at least 1", self.k)
        require(self.max_users >= 1, "max_users", "be at least 1", self.max_users)
        require(0 <= self.clip < 1, "clip", "be at least 0 and below 1", self.clip)
        one = self.propensities is None or self.column is None
        require(one, "propensities", "be a file or a column, not both", self.propensities)


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
    propensities, weights = _weights(data, measured, config, kind, reference)
    return Plan(
        kind=kind,
        data=data,
        measured=measured,
        reference=reference,
        weights=weights,
        propensities=propensities,
    )


def _weights(
    data: Dataset, measured: Dataset, config: AuditConfig, kind: str, reference: str | None
) -> tuple[Propensities | None, dict[str, unbiased.Weights]]:
    names = config.weighed
    if names is None:
        names = () if reference is None else (reference,)
    known = measured_sets(measured, reference)
    for name in names:
        if name not in known:
            raise ConfigError(f"`weighed` must be among {', '.join(known)}, got {name!r}.")
    if not names:
        return None, {}
    of_the_log = tuple(data.parts) if kind == "log" else ("valid", *names)
    counts = log_counts(data, tuple(name for name in of_the_log if name in data.parts))
    if config.propensities is not None:
        propensities = read_propensities(config.propensities, data)
    elif config.column is not None:
        propensities = column_propensities(data, config.column)
    else:
        propensities = power_law(counts, gamma=config.gamma)
    weights = {}
    for name in names:
        truth, everyone = known[name].truth, data.parts[name]
        share = (truth.user_counts > 0).sum() / (everyone.user_counts > 0).sum()
        weights[name] = unbiased.make_weights(
            propensities.of(truth, name),
            clip=config.clip,
            scale=everyone.nnz / counts.sum() if propensities.absolute else None,
            n_population=data.n_users * share,
        )
    return propensities, weights
