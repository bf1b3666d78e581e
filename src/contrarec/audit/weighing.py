"""Which sets are weighed by one over the propensity, and how much each positive counts."""

from typing import NamedTuple

from contrarec.audit.config import AuditConfig
from contrarec.audit.propensity import (
    Propensities,
    column_propensities,
    log_counts,
    power_law,
    read_propensities,
)
from contrarec.audit.shift import REFERENCE, TIME, measured_sets
from contrarec.audit.unbiased import Weights, make_weights
from contrarec.data.dataset import Dataset
from contrarec.errors import ConfigError


def set_weights(
    data: Dataset, measured: Dataset, config: AuditConfig, kind: str, reference: str | None
) -> tuple[Propensities | None, dict[str, Weights]]:
    """Return the weights of the positives of every set that is weighed.

    Args:
        data: with all users.
        measured: with those that are measured.
        config: says where propensities come from, and which sets are weighed.
        kind: `log`, `data` or `runs`, see `Audit`.
        reference: the in-distribution set.

    Returns:
        The propensities, None if nothing is weighed; and set → weights.

    Raises:
        ConfigError: a set to weigh is not there, or was chosen by popularity.
        DataError: propensities cannot be had.
    """
    names = config.weighed
    if names is None:
        names = () if reference is None else (reference,)
    known = measured_sets(measured, reference)
    for name in names:
        if name not in known:
            raise ConfigError(f"`weighed` must be among {', '.join(known)}, got {name!r}.")
    if not names:
        return None, {}
    log = _the_log(data, kind, names)
    counts = log_counts(data, log.whole)
    if config.propensities is not None:
        propensities = read_propensities(config.propensities, data)
    elif config.column is not None:
        propensities = column_propensities(data, config.column)
    else:
        propensities = power_law(counts, gamma=config.gamma)
    weights = {}
    for name in names:
        rest = counts if name == TIME else log_counts(data, log.rest)
        truth, everyone = known[name].truth, data.parts[name]
        left = rest[truth.indices] / counts[truth.indices]
        share = (truth.user_counts > 0).sum() / (everyone.user_counts > 0).sum()
        weights[name] = make_weights(
            propensities.of(truth, name) * left,
            clip=config.clip,
            scale=everyone.nnz / rest.sum() if propensities.absolute else None,
            n_population=data.n_users * share,
        )
    return propensities, weights


class _Log(NamedTuple):
    """Which parts are the log that propensities are about."""

    whole: tuple[str, ...]
    rest: tuple[str, ...]
    """Those that are a random division of what was left after the shifted sets were taken. They
    took more of some items than of others, and a positive's propensity to be in the rest is
    smaller by as much."""


def _the_log(data: Dataset, kind: str, names: tuple[str, ...]) -> _Log:
    """Return the parts that are the log.

    Raises:
        ConfigError: a set is to be weighed that was taken out of the log by popularity.
    """
    if kind != "log":
        together = [name for name in ("train", "valid", *names) if name in data.parts]
        return _Log(tuple(dict.fromkeys(together)), tuple(dict.fromkeys(together)))
    rest = tuple(name for name in ("train", "valid", REFERENCE) if name in data.parts)
    for name in names:
        if name not in (*rest, TIME):
            raise ConfigError(
                f"`weighed` must be sets that are a random part of the log, got {name!r}, whose "
                "popularity was chosen."
            )
    return _Log(tuple(data.parts), rest)
