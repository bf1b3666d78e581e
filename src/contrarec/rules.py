"""Which items may be recommended: lists for everyone or for single users, and availability."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray

from contrarec.data.columns import USUAL_NAMES
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import DataError
from contrarec.frames import ids_of
from contrarec.rankings import Rows

AVAILABLE = "available"
_YES, _NO = ("true", "1", "yes"), ("false", "0", "no")


class ItemRules:
    """What a request leaves out and what it is limited to; read once, applied to any users.

    Both may be item ids (a list, array, series or one-column frame), which count for everyone; or
    a frame with a column of users, too, whose rows count for that user. A frame to be limited to
    may have a column `available` (true or false): rows where it is false do not count, so that a
    table of the stock can be given as it is.

    Args:
        exclude: items that are not recommended.
        allow: the only items that may be; a user without a row gets none, if there are users.
        users: the ids that the model knows.
        items: likewise; other items cannot be recommended anyhow.

    Raises:
        DataError: a frame has not the columns that it needs, or `available` is neither.
    """

    def __init__(self, exclude: Any, allow: Any, users: Vocabulary, items: Vocabulary) -> None:
        self.candidates: NDArray[np.bool_] | None = None
        """`[n_items]`, true where an item may be recommended to anyone; None if all may be."""
        self.n_unknown = 0
        """Distinct allowed items that the model does not know."""
        self._n_items = len(items)
        self._excluded, self._allowed = (
            None if given is None else _read(given, name, users, items)
            for name, given in (("exclude", exclude), ("allow", allow))
        )
        if self._allowed is not None:
            unknown = self._allowed.filter(pl.col("index") < 0)
            self.n_unknown = unknown["item"].n_unique()
        for rows, keep in ((self._excluded, False), (self._allowed, True)):
            if rows is not None and "user" not in rows.columns:
                listed = np.zeros(self._n_items, bool)
                listed[rows.filter(pl.col("index") >= 0)["index"].to_numpy()] = True
                of_all = listed if keep else ~listed
                self.candidates = of_all if self.candidates is None else self.candidates & of_all

    def excluded(self, ids: pl.Series) -> Rows | None:
        """Return what is left out for each of these users; None if there are no such lists."""
        return self._rows(self._excluded, ids)

    def allowed(self, ids: pl.Series) -> Rows | None:
        """Return what each of these users is limited to; None if there are no such lists."""
        return self._rows(self._allowed, ids)

    def _rows(self, lists: pl.DataFrame | None, ids: pl.Series) -> Rows | None:
        if lists is None or "user" not in lists.columns:
            return None
        asked = pl.DataFrame({"user": ids}).with_row_index("row")
        found = lists.filter(pl.col("index") >= 0).join(asked, on="user")
        keys = np.unique(
            found["row"].to_numpy().astype(np.int64) * self._n_items + found["index"].to_numpy()
        )
        lengths = np.bincount(keys // self._n_items, minlength=len(ids))
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        return Rows(indptr, (keys % self._n_items).astype(np.int32))


def _read(given: Any, name: str, users: Vocabulary, items: Vocabulary) -> pl.DataFrame:
    """Return `item` (ids), `index` (-1 for an unknown one) and, where there are any, `user`."""
    columns: dict[str, Any] = {"item": given}
    frame = nw.from_native(given, pass_through=True)
    if isinstance(frame, nw.DataFrame) and len(frame.columns) > 1:
        found = {kind: _column(frame.columns, USUAL_NAMES[kind]) for kind in ("user", "item")}
        if found["item"] is None:
            raise DataError(
                f"{name}: no column is called {' or '.join(USUAL_NAMES['item'])}; columns: "
                f"{', '.join(frame.columns)}."
            )
        columns = {kind: frame[column] for kind, column in found.items() if column is not None}
        available = _column(frame.columns, (AVAILABLE,))
        if available is not None and name != "allow":
            raise DataError(f"{name}: a column `{AVAILABLE}` belongs to the items to allow.")
        columns |= {} if available is None else {AVAILABLE: frame[available]}
        if len(columns) == 1:
            raise DataError(
                f"{name}: beside the items there must be a column of users or `{AVAILABLE}`, got "
                f"{', '.join(frame.columns)}."
            )
    read = {"item": ids_of(columns["item"], items.ids.dtype)[0]}
    if "user" in columns:
        read["user"] = ids_of(columns["user"], users.ids.dtype)[0]
    rows = pl.DataFrame(read).with_columns(index=items.index(read["item"]))
    if AVAILABLE in columns:
        rows = rows.filter(_truth(columns[AVAILABLE].to_list(), name))
    return rows


def _column(names: Sequence[str], usual: Sequence[str]) -> str | None:
    return next((name for name in names if name.lower() in usual), None)


def _truth(values: list[Any], name: str) -> pl.Series:
    words = pl.Series("word", [str(value).lower() for value in values], dtype=pl.String)
    wrong = ~words.is_in((*_YES, *_NO))
    if wrong.any():
        first = values[wrong.to_list().index(True)]
        raise DataError(f"{name}: `{AVAILABLE}` must be true or false, got {first!r}.")
    return words.is_in(_YES)
