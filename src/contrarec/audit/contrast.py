"""How sure the figures of several methods on several sets are, and whether they differ.

Users are what is resampled, the same ones for all methods and sets: a user may count in several
sets, and figures made of several sets' means (the mean over shifted sets, the share of quality
that is kept) have intervals and tests of their own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrarec.evaluation.compare import flipped_sums, holm, resampled_means

Floats = NDArray[np.float64]
Column = tuple[str, str, str]
"""(method, set, figure)"""

RESAMPLES, FLIPS = 1_000, 4_000
LEVEL = 0.95
SHIFTED = "mean of the shifted sets"
KEPT = "share kept"

DEFINITIONS = {
    "interval": f"95 %, bootstrap over users ({RESAMPLES} resamples, the same users for all sets "
    "and methods); the trained seeds count as given",
    "p": f"two-sided, {FLIPS} random sign patterns, in which a user's values of the two methods "
    "change places in all sets at once; Holm's correction over all pairs of methods and all sets "
    "of a metric, and over all pairs for what is made of several sets",
    SHIFTED: "unweighted mean over the shifted sets",
    KEPT: "mean of the shifted sets / value in distribution; 1 is no loss. Sets differ in how hard "
    "they are, too: compare methods by it, not data sets",
}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure and its 95 % interval."""

    mean: float
    low: float
    high: float
    sd: float | None = None
    """Standard deviation over seeds; None for a single one."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A method against another, on one set or over several."""

    method: str
    against: str
    where: str
    """A set, `SHIFTED` or `KEPT`."""
    metric: str
    difference: float
    """Of `method` less `against`."""
    low: float
    high: float
    p: float
    p_holm: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)

    def reversed(self) -> "Difference":
        """Return the same from the other method's side."""
        values = asdict(self) | {"method": self.against, "against": self.method}
        values |= {"difference": -self.difference, "low": -self.high, "high": -self.low}
        return Difference(**values)


class UserTable:
    """Per-user values of several methods on several sets, a row per user of any of them.

    Args:
        users: set → `[n]` user indices.
        values: (method, set, figure) → `[n]`, in the order of that set's users; NaN where a figure
            does not count a user. A figure that counts nobody is left out.
    """

    def __init__(
        self, users: Mapping[str, NDArray[np.integer]], values: Mapping[Column, Floats]
    ) -> None:
        everyone = np.unique(np.concatenate(list(users.values())))
        rows = {name: np.searchsorted(everyone, index) for name, index in users.items()}
        kept = {place: column for place, column in values.items() if np.isfinite(column).any()}
        self._place = {column: number for number, column in enumerate(kept)}
        self.table = np.full((len(everyone), len(kept)), np.nan)
        for number, ((_, name, _), column) in enumerate(kept.items()):
            self.table[rows[name], number] = column
        self._means = np.nanmean(self.table, axis=0)
        self._resampled = resampled_means(self.table, n_resamples=RESAMPLES, rng=0)

    def __contains__(self, column: Column) -> bool:
        return column in self._place

    def estimate(
        self,
        columns: Sequence[Column],
        figure: Callable[[Floats], Floats] = lambda means: means[..., 0],
        sd: float | None = None,
    ) -> Estimate:
        """Return a figure of some columns' means.

        Args:
            columns: which means it is made of.
            figure: takes `[…, columns]`, gives `[…]`; the only mean itself if not given.
            sd: over seeds, to go with it.
        """
        numbers = [self._place[column] for column in columns]
        low, high = _interval(figure(self._resampled[:, numbers]))
        value = float(figure(self._means[numbers]))
        return Estimate(mean=value, low=low, high=high, sd=sd)

    def differences(
        self,
        methods: Sequence[str],
        metric: str,
        sets: Sequence[str],
        reference: str | None,
        shifted: Sequence[str],
    ) -> list[Difference]:
        """Test every pair of methods on every set, and on what is made of several sets.

        Args:
            methods: at least one.
            metric: the figure.
            sets: all of them.
            reference: the in-distribution one; None for none, and then nothing is kept of it.
            shifted: those that the mean is over.
        """
        figures = set_figures(sets, reference, shifted)
        pairs = list(combinations(methods, 2))
        if not pairs:
            return []
        numbers = {
            method: [self._place[method, name, metric] for name in sets] for method in methods
        }
        halves = np.concatenate(
            [(self.table[:, numbers[b]] - self.table[:, numbers[a]]) / 2 for a, b in pairs], axis=1
        )
        counted = np.tile((~np.isnan(self.table[:, numbers[methods[0]]])).sum(0), len(pairs))
        flipped = flipped_sums(np.nan_to_num(halves), n_flips=FLIPS, rng=0) / counted
        found: list[Difference] = []
        for number, (a, b) in enumerate(pairs):
            means = self._means[numbers[a]], self._means[numbers[b]]
            middle = (means[0] + means[1]) / 2
            half = flipped[:, number * len(sets) : (number + 1) * len(sets)]  # [flips, sets]
            for where, figure in figures.items():
                value = figure(means[1]) - figure(means[0])
                under_null = np.abs(figure(middle + half) - figure(middle - half))
                # rounding aside; what is not a number counts as large
                as_large = (~(under_null < abs(value) - 1e-12)).sum()
                resampled = self._resampled[:, numbers[b]], self._resampled[:, numbers[a]]
                low, high = _interval(figure(resampled[0]) - figure(resampled[1]))
                p = float((1 + as_large) / (1 + FLIPS))
                found.append(
                    Difference(
                        method=b,
                        against=a,
                        where=where,
                        metric=metric,
                        difference=float(value),
                        low=low,
                        high=high,
                        p=p,
                        p_holm=1.0,
                    )
                )
        return _corrected(found)


def set_figures(
    sets: Sequence[str], reference: str | None, shifted: Sequence[str]
) -> dict[str, Callable[[Floats], Floats]]:
    """Return what is looked at: every set, the mean of the shifted ones, and what is kept.

    Args:
        sets: all of them.
        reference: the in-distribution one, or None.
        shifted: those that the mean is over.

    Returns:
        Name → function of means `[…, sets]`, which gives `[…]`.
    """

    def one(place: int) -> Callable[[Floats], Floats]:
        return lambda means: means[..., place]

    def mean(means: Floats) -> Floats:
        return np.asarray(means[..., places].mean(-1))

    def kept(means: Floats) -> Floats:
        before = means[..., first]
        share = np.full(before.shape, np.nan)  # of nothing, none is kept
        return np.asarray(np.divide(mean(means), before, out=share, where=before > 0))

    places = [sets.index(name) for name in shifted]
    figures = {name: one(place) for place, name in enumerate(sets)}
    if len(shifted) > 1:
        figures[SHIFTED] = mean
    if reference and shifted:
        first = sets.index(reference)
        figures[KEPT] = kept
    return figures


def _interval(values: Floats) -> tuple[float, float]:
    if not np.isfinite(values).any():
        return np.nan, np.nan
    low, high = np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _corrected(found: list[Difference]) -> list[Difference]:
    """Correct the p-values: those of all single sets together, and each figure of several."""
    families: dict[str, list[int]] = {}
    for number, difference in enumerate(found):
        family = difference.where if difference.where in (SHIFTED, KEPT) else ""
        families.setdefault(family, []).append(number)
    for numbers in families.values():
        for number, p in zip(numbers, holm([found[n].p for n in numbers]), strict=True):
            found[number] = Difference(**asdict(found[number]) | {"p_holm": float(p)})
    return found
