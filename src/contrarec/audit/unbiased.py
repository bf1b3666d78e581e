"""Ranking metrics of a biased log, each positive weighed by one over its propensity.

A log shows a liked pair with its propensity p. What is measured on a random part of it is what
popular items make of it. Weighing each positive by w = 1/p makes the sums those of all liked pairs,
seen or not, on average (IPS); their ratio is the share of these that is found (SNIPS).

Everything here is about positives, not users: a mean over users of ratios (as in Yang et al. 2018)
gives a user's only positive the weight 1, whatever its propensity.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrarec.data.interactions import Interactions
from contrarec.errors import ConfigError

Floats = NDArray[np.float64]

CLIP = 0.01
FEW, SMALL_SHARE = 100, 0.1
"""An effective sample below `FEW` positives or below this share of them says little."""
_NORMAL = 1.959963984540054  # 95 %

DEFINITIONS = {
    "plain": "share of the set's positives that are among the first k (recall), or the mean over "
    "them of 1/log2(rank + 1), 0 beyond k (dcg)",
    "snips": "the same with each positive weighed by 1/propensity, self-normalised: what it would "
    "be over all liked pairs, shown or not, had each been held out; nearly unbiased",
    "ips": "sum of the weighed positives found, per user of the data: how many liked items a user "
    "would find among the first k; unbiased, only where propensities are probabilities",
    "clip": "propensities below this count as this, which bounds the variance and biases towards "
    "the plain figure",
    "effective": "Kish's effective sample size, (sum of weights)² / sum of squared weights",
    "interval": "95 %, normal approximation over users (ratios linearised); the trained models and "
    "the propensities count as given",
}


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The positives of a set and what each stands for."""

    values: Floats
    """`[nnz]`, one over the propensity, in the order of the set's positives."""
    clip: float
    clipped: float
    """Share of the positives whose propensity was raised to `clip`."""
    scale: float | None
    """Share of the log that is in the set; None where propensities are no probabilities."""
    n_population: float
    """Users whom the sums are about: all of the data, or the measured share of them."""

    @property
    def effective(self) -> float:
        """Kish's effective sample size.

        >>> Weights(values=np.array([1.0, 1.0, 2.0]), clip=0.1, clipped=0.0, scale=None,
        ...         n_population=3).effective  # 16 / 6
        2.6666666666666665
        """
        return float(self.values.sum() ** 2 / (self.values**2).sum())

    @property
    def small(self) -> bool:
        """Whether the effective sample says little."""
        return self.effective < max(FEW, SMALL_SHARE * len(self.values))


@dataclass(frozen=True, kw_only=True)
class Unbiased:
    """A figure of one method on one set, plain and weighed, each with the ends of its interval."""

    metric: str
    """`recall@k` or `dcg@k`, over positives."""
    plain: tuple[float, float, float]
    snips: tuple[float, float, float]
    ips: tuple[float, float, float] | None
    """None where propensities are no probabilities."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }


def make_weights(
    propensities: Floats,
    *,
    clip: float = CLIP,
    scale: float | None = None,
    n_population: float,
) -> Weights:
    """Return the weights of a set's positives.

    Args:
        propensities: `[nnz]`, each in (0, 1].
        clip: smaller ones count as this; 0 for none.
        scale: share of the log that is in the set, or None.
        n_population: users whom the sums are about.

    Raises:
        ConfigError: `clip` is not in [0, 1).
    """
    if not 0 <= clip < 1:
        raise ConfigError(f"`clip` must be at least 0 and below 1, got {clip}.")
    return Weights(
        values=1 / np.maximum(propensities, clip),
        clip=clip,
        clipped=float((propensities < clip).mean()),
        scale=scale,
        n_population=n_population,
    )


def found_weights(
    lists: NDArray[np.integer], users: NDArray[np.integer], truth: Interactions, values: Floats
) -> Floats:
    """Return the weight of the positive at each place of the lists, 0 for all other items.

    Args:
        lists: `[n, k]` item indices, -1 for an empty place.
        users: `[n]` user indices.
        truth: the positives.
        values: `[nnz]`, a weight for each.

    Returns:
        `[n, k]`.
    """
    keys = truth.keys
    wanted = np.asarray(users, np.int64)[:, None] * truth.n_items + lists
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found = (keys[place] == wanted) & (lists >= 0)
    return np.asarray(np.where(found, values[place], 0.0))


def user_sums(
    lists: NDArray[np.integer], users: NDArray[np.integer], truth: Interactions, values: Floats
) -> Floats:
    """Return each user's weighed positives found, by rank or not: `[n, 2]` for recall and dcg."""
    found = found_weights(lists, users, truth, values)
    discount = 1 / np.log2(np.arange(2, found.shape[1] + 2))
    return np.stack([found.sum(1), found @ discount], axis=1)


def ratio(found: Floats, total: Floats) -> tuple[float, float, float]:
    """Return Σ found / Σ total over users, and the ends of its interval.

    Args:
        found: `[n]` sum over a user's positives that are found.
        total: `[n]` sum over all of them.

    >>> ratio(np.array([1.0, 1.0]), np.array([2.0, 2.0]))
    (0.5, 0.5, 0.5)
    """
    value = found.sum() / total.sum()
    half = _NORMAL * np.sqrt(((found - value * total) ** 2).sum()) / total.sum()
    return float(value), float(value - half), float(value + half)


def mean_over(found: Floats, n_population: float, scale: float) -> tuple[float, float, float]:
    """Return `Σ found / (scale · n_population)`, and the ends of its interval.

    Args:
        found: `[n]`, users who are not among them have 0.
        n_population: users that the mean is over.
        scale: share of the log that is in the set.
    """
    mean = found.sum() / n_population
    variance = (found @ found / n_population - mean**2) / n_population
    half = _NORMAL * np.sqrt(max(variance, 0.0))
    return float(mean / scale), float((mean - half) / scale), float((mean + half) / scale)


def unbiased_metrics(
    plain: Floats, weighed: Floats, users: NDArray[np.integer], truth: Interactions,
    weights: Weights, k: int,
) -> tuple[Unbiased, ...]:  # fmt: skip
    """Return recall and dcg over positives: plain, self-normalised and, with probabilities, IPS.

    Args:
        plain: `[n, 2]` of `user_sums` with weight 1, averaged over seeds.
        weighed: `[n, 2]` likewise with `weights`.
        users: `[n]`, all users with a positive in `truth`.
        truth: the positives.
        weights: of the positives.
        k: cutoff, for the names.
    """
    counts = truth.user_counts[users].astype(np.float64)
    totals = np.bincount(truth.rows, weights.values, truth.n_users)[users]
    return tuple(
        Unbiased(
            metric=f"{name}@{k}",
            plain=ratio(plain[:, column], counts),
            snips=ratio(weighed[:, column], totals),
            ips=None
            if weights.scale is None
            else mean_over(weighed[:, column], weights.n_population, weights.scale),
        )
        for column, name in enumerate(("recall", "dcg"))
    )
