"""Which false negatives are known of a data set, and which pairs are left out beside them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np

from contrarec.data.columns import ColumnNames
from contrarec.data.dataset import Dataset
from contrarec.data.folder import find_false_negatives
from contrarec.data.interactions import Interactions
from contrarec.data.readers import read_interactions
from contrarec.errors import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """Known false negatives, in the vocabularies of a data set."""

    false: Interactions
    """Pairs that are liked and not in the training history."""
    left_out: Interactions
    """The training history, and held-out positives that are not among `false`."""
    history: Interactions
    """The training history."""
    source: str
    """Where it comes from, in words."""


def known_false_negatives(
    data: Dataset, file: Path | None = None, **columns: Unpack[ColumnNames]
) -> Truth:
    """Find what is known: a file of pairs, or else the positives of the test sets.

    Args:
        data: the data set.
        file: a log of pairs that are liked; if None, `false_negatives.parquet` (or `.csv`, …) of
            the data set's folder, which `contrarec data synth` writes, if there is one.
        **columns: names of the columns in `file`.

    Raises:
        DataError: nothing is known, or the file is broken or about other users and items.
    """
    if file is None and data.path and Path(data.path).is_dir():
        file = find_false_negatives(Path(data.path))
    held_out = [part for name, part in data.parts.items() if name != "train"]
    if file is not None:
        false, source = _read(file, data, columns), f"the pairs of {file.name}"
    elif data.tests:
        tests = [test.truth for test in data.tests.values()]
        false, source = tests[0], f"the positives of {' and '.join(data.tests)}"
        for more in tests[1:]:
            false = false.union(more)
    else:
        raise DataError(
            f"{data.path or data.name}: no false negatives are known, as there is neither a test "
            "set nor a file of them (--truth)."
        )
    false = false.select(~false.isin(data.train))
    if not false.nnz:
        raise DataError(f"{data.path or data.name}: {source} are all in the training history.")
    left_out = data.train
    for part in held_out:
        left_out = left_out.union(part.select(~part.isin(false)))
    return Truth(false=false, left_out=left_out, history=data.train, source=source)


def _read(file: Path, data: Dataset, columns: ColumnNames) -> Interactions:
    """Read pairs, without those whose user or item the data set does not have."""
    if not file.is_file():
        raise DataError(f"{file}: no such file.")
    log = read_interactions(file, columns)
    users = data.users.index(log.users.ids)[log.rows]
    items = data.items.index(log.items.ids)[log.indices]
    known = (users >= 0) & (items >= 0)
    if not np.any(known):
        raise DataError(f"{file}: none of its pairs has a user and an item of {data.name}.")
    return Interactions.from_pairs(users[known], items[known], users=data.users, items=data.items)
