"""Propensities: how likely it is that a positive pair is in the log, given or estimated."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contrarec.data.columns import USUAL_NAMES
from contrarec.data.dataset import Dataset
from contrarec.data.interactions import Interactions
from contrarec.errors import ConfigError, DataError

Floats = NDArray[np.float64]

GAMMA = 1.5
"""γ of the power law where nothing is known of it: the mildest that its authors looked at."""
COLUMN = "propensity"
_READERS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Propensities:
    """A propensity for every pair of a set: by item, by pair, or beside each interaction."""

    source: str
    """Where they come from, a phrase."""
    absolute: bool
    """Whether they are probabilities, or known up to a factor only."""
    by_item: Floats | None = None
    """`[n_items]`; NaN where nothing is said of an item."""
    by_pair: tuple[NDArray[np.int64], Floats] | None = None
    """Ascending keys `user · n_items + item`, and the propensity of each."""

    def of(self, truth: Interactions, name: str) -> Floats:
        """Return the propensity of each positive of a set, `[nnz]`.

        Args:
            truth: the set's positives.
            name: the set's, for messages.

        Raises:
            DataError: nothing is said of a positive.
        """
        if self.by_item is not None:
            found: Floats = self.by_item[truth.indices]
        elif self.by_pair is not None:
            keys, values = self.by_pair
            place = np.minimum(np.searchsorted(keys, truth.keys), len(keys) - 1)
            found = np.where(keys[place] == truth.keys, values[place], np.nan)
        elif truth.weight is not None:
            found = truth.weight.astype(np.float64)
            _check_range(found, self.source)
        else:
            raise DataError(f"{self.source}: no propensities beside the interactions of {name!r}.")
        missing = np.isnan(found)
        if missing.any():
            first = int(missing.argmax())
            user, item = (
                truth.users.ids[int(truth.rows[first])],
                truth.items.ids[int(truth.indices[first])],
            )
            raise DataError(
                f"{self.source}: says nothing about {missing.sum()} of {truth.nnz} positives of "
                f"{name!r}, the first with user {user!r} and item {item!r}."
            )
        return found


def power_law(item_counts: NDArray[np.integer], *, gamma: float = GAMMA) -> Propensities:
    """Estimate the propensity of an item from its popularity, `p_i ∝ n_i^((γ + 1) / 2)`.

    The largest is set to 1: the factor is not known, and cancels in a self-normalised estimate.

    Args:
        item_counts: `[n_items]` interactions of each item in the log.
        gamma: how much more often popular items are shown; at least -1, where all are alike.

    Raises:
        ConfigError: `gamma` is below -1 or not finite.

    Source:
        Yang et al., "Unbiased offline recommender evaluation for missing-not-at-random implicit
        feedback", RecSys 2018. There the chance that an item is shown is taken to be `∝ n*_i^γ` of
        its observed count n*, and the chance that a shown positive becomes an interaction to be the
        same for all; with the observed count binomial, the propensity is `∝ (n*_i)^((γ + 1) / 2)`.

    Deviations:
        The authors count in train and drop positives that train does not have; here an item's count
        is that of the whole log, so that it is never 0 for a positive. They normalise by user,
        where a user's only positive always weighs 1; see `unbiased`.

    >>> power_law(np.array([4, 1, 0]), gamma=1.0).by_item
    array([1.  , 0.25,  nan])
    """
    if not -1 <= gamma < np.inf:
        raise ConfigError(f"`gamma` must be at least -1 and finite, got {gamma}.")
    counts = np.asarray(item_counts, np.float64)
    counts = np.where(counts > 0, counts, np.nan)
    largest = np.nanmax(counts) if (counts > 0).any() else 1.0
    return Propensities(
        source=f"estimated from popularity, p ∝ n^((γ + 1)/2) with γ = {gamma:g}",
        absolute=False,
        by_item=np.asarray((counts / largest) ** ((gamma + 1) / 2)),
    )


def read_propensities(path: Path, data: Dataset) -> Propensities:
    """Read propensities of items, or of pairs of a user and an item.

    Args:
        path: `.csv`, `.tsv` or `.parquet` with the columns `item_id`, `propensity` and, for pairs,
            `user_id`, under any of their usual names.
        data: whose ids they are; others are ignored.

    Raises:
        DataError: the file cannot be read, lacks a column, gives an item or pair twice, knows no
            item of the data, or a propensity is not in (0, 1].
    """
    frame, columns = _read(path)
    values = frame[columns[COLUMN]].cast(pl.Float64, strict=False)
    wrong = values.is_null() | ~((values > 0) & (values <= 1))
    if wrong.any():
        line, got = int(wrong.arg_max() or 0), frame[columns[COLUMN]]
        raise DataError(
            f"{path}: `{columns[COLUMN]}` must be above 0 and at most 1, got {got[line]!r} in row "
            f"{line + 1}."
        )
    items = data.items.index(frame[columns["item"]])
    known = items >= 0
    keys, size = items, data.n_items
    if "user" in columns:
        users = data.users.index(frame[columns["user"]])
        known &= users >= 0
        keys, size = users * data.n_items + items, 0
    keys, found = keys[known], values.to_numpy()[known]
    order = np.argsort(keys, kind="stable")
    keys, found = keys[order], found[order]
    if not len(keys):
        raise DataError(f"{path}: none of its ids is in the data.")
    if (np.diff(keys) == 0).any():
        raise DataError(f"{path}: an item or pair is given twice.")
    if not size:
        return Propensities(source=str(path), absolute=True, by_pair=(keys, found))
    by_item = np.full(size, np.nan)
    by_item[keys] = found
    return Propensities(source=str(path), absolute=True, by_item=by_item)


def column_propensities(data: Dataset, column: str) -> Propensities:
    """Return the propensities that were read as the weights of a data set's interactions.

    Args:
        data: read with the column as its weights.
        column: its name, for messages.

    Raises:
        DataError: repeated pairs, whose propensities would have been added up.
    """
    repeated = sum(part.n_duplicates for part in data.parts.values())
    if repeated:
        raise DataError(
            f"{data.name}: a propensity per interaction needs every pair once, got {repeated} "
            "repeated ones."
        )
    return Propensities(source=f"column {column!r}", absolute=True)


def log_counts(data: Dataset, names: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the interactions of each item in train and in these parts together, `[n_items]`."""
    parts = data.parts
    together = np.zeros(data.n_items, np.int64)
    for name in dict.fromkeys(("train", *names)):
        together += parts[name].item_counts
    return together


def _read(path: Path) -> tuple[pl.DataFrame, dict[str, str]]:
    suffix = path.suffix.lower()
    if suffix not in (*_READERS, ".parquet"):
        raise DataError(f"{path}: propensities must be .csv, .tsv or .parquet.")
    try:
        frame = (
            pl.read_parquet(path)
            if suffix == ".parquet"
            else pl.read_csv(path, separator=_READERS[suffix], infer_schema=False)
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]}).") from error
    usual = {role: USUAL_NAMES[role] for role in ("user", "item")} | {COLUMN: (COLUMN,)}
    columns = {
        role: name
        for role, names in usual.items()
        for name in frame.columns
        if name.lower() in names
    }
    for role in ("item", COLUMN):
        if role not in columns:
            raise DataError(
                f"{path}: no column is called {' or '.join(usual[role])}; columns: "
                f"{', '.join(frame.columns)}."
            )
    return frame, columns


def _check_range(values: Floats, source: str) -> None:
    wrong = ~((values > 0) & (values <= 1))
    if wrong.any():
        raise DataError(
            f"{source}: propensities must be above 0 and at most 1, got {values[wrong][0]:g}."
        )
