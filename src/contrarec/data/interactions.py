"""Who interacted with what: compressed sparse rows and the ids they stand for."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from contrarec.data.rows import count, first_fall, offsets, pack
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import DataError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_BLOCK = 1 << 22  # interactions looked at at a time, where a number for each pair is needed


@dataclass(frozen=True, kw_only=True, eq=False)
class Interactions:
    """A set of (user, item) pairs as compressed sparse rows (CSR), never changed in place."""

    indptr: np.ndarray
    """`[n_users + 1]` int64; user u's items are `indices[indptr[u]:indptr[u + 1]]`."""
    indices: np.ndarray
    """`[nnz]` int32 item indices, strictly ascending in each row."""
    users: Vocabulary
    """Ids of the rows."""
    items: Vocabulary
    """Ids of the columns."""
    time: np.ndarray | None = None
    """`[nnz]`, when each interaction happened (the last time, if more than once)."""
    weight: np.ndarray | None = None
    """`[nnz]` float32, summed over repeated pairs."""
    n_duplicates: int = 0
    """How many repetitions of pairs were collapsed when this was made."""

    def __post_init__(self) -> None:
        sound = (
            self.indptr.shape == (len(self.users) + 1,)
            and self.indptr[0] == 0
            and self.indptr[-1] == len(self.indices)
            and bool((np.diff(self.indptr) >= 0).all())
        )
        if not sound:
            raise DataError(
                f"`indptr` must have shape ({len(self.users) + 1},) and rise from 0 to "
                f"{len(self.indices)}, got shape {self.indptr.shape}."
            )
        if self.nnz and not (self.indices.min() >= 0 and self.indices.max() < self.n_items):
            raise DataError(
                f"`indices` must lie in [0, {self.n_items}), "
                f"got {self.indices.min()} to {self.indices.max()}."
            )
        if first_fall(self.indptr, self.indices) is not None:
            raise DataError("`indices` must be strictly ascending in each row.")
        for name in ("time", "weight"):
            values = getattr(self, name)
            if values is not None and values.shape != (self.nnz,):
                raise DataError(f"`{name}` must have shape ({self.nnz},), got {values.shape}.")

    @classmethod
    def from_pairs(
        cls,
        user_index: np.ndarray,
        item_index: np.ndarray,
        *,
        users: Vocabulary,
        items: Vocabulary,
        time: np.ndarray | None = None,
        weight: np.ndarray | None = None,
    ) -> "Interactions":
        """Collect pairs in any order; repeated ones are collapsed and counted.

        Args:
            user_index: `[n]` integers, within `users`.
            item_index: `[n]` integers, within `items`.
            users: the ids that user indices stand for.
            items: the ids that item indices stand for.
            time: `[n]`; a repeated pair keeps its last one.
            weight: `[n]`; a repeated pair gets the sum.

        Raises:
            DataError: an index is not in its vocabulary, or lengths differ.
        """
        for name, index, size in (
            ("user", user_index, len(users)),
            ("item", item_index, len(items)),
        ):
            if index.shape != user_index.shape:
                raise DataError(f"`{name}_index` must be [{len(user_index)}], got {index.shape}.")
            if len(index) and not (index.min() >= 0 and index.max() < size):
                raise DataError(
                    f"`{name}_index` must lie in [0, {size}), got {index.min()} to {index.max()}."
                )
        rows = pack(user_index, item_index, len(users), len(items), time, weight)
        return cls(users=users, items=items, **rows._asdict())

    @property
    def n_users(self) -> int:
        """Rows, whether or not they have interactions."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Columns, whether or not they have interactions."""
        return len(self.items)

    @property
    def nnz(self) -> int:
        """Interactions."""
        return len(self.indices)

    def __len__(self) -> int:
        return self.nnz

    def __repr__(self) -> str:
        return f"Interactions({self.n_users} users × {self.n_items} items, {self.nnz} pairs)"

    @property
    def rows(self) -> np.ndarray:
        """`[nnz]` int32, the user index of each interaction."""
        rows: np.ndarray = np.repeat(np.arange(self.n_users, dtype=np.int32), self.user_counts)
        return rows

    @property
    def keys(self) -> np.ndarray:
        """`[nnz]` int64, `user * n_items + item`: one ascending number per pair."""
        return self._keys(range(self.n_users))

    @cached_property
    def user_counts(self) -> np.ndarray:
        """`[n_users]` int64, interactions of each user."""
        counts: np.ndarray = np.diff(self.indptr)
        return counts

    @cached_property
    def item_counts(self) -> np.ndarray:
        """`[n_items]` int64, interactions with each item."""
        return count(self.indices, self.n_items)

    def select(self, keep: np.ndarray) -> "Interactions":
        """Return the interactions where `keep` (bool `[nnz]`) is true, in the same vocabularies."""
        if keep.shape != (self.nnz,) or keep.dtype != bool:
            raise DataError(f"`keep` must be bool [{self.nnz}], got {keep.dtype} {keep.shape}.")
        counts = np.zeros(self.n_users, dtype=np.int64)
        filled = np.flatnonzero(self.user_counts)  # so that each sum ends where the next one starts
        counts[filled] = np.add.reduceat(keep, self.indptr[filled], dtype=np.int64)
        return Interactions(
            indptr=offsets(counts),
            indices=self.indices[keep],
            users=self.users,
            items=self.items,
            time=None if self.time is None else self.time[keep],
            weight=None if self.weight is None else self.weight[keep],
        )

    def isin(self, other: "Interactions") -> np.ndarray:
        """Tell for each pair, bool `[nnz]`, whether `other` (in the same vocabularies) has it."""
        self._check_same(other)
        found = np.empty(self.nnz, dtype=bool)
        for users in self._blocks():
            mine, theirs = self._keys(users), other._keys(users)
            place = np.searchsorted(theirs, mine)
            part = slice(self.indptr[users.start], self.indptr[users.stop])
            found[part] = np.append(theirs, -1)[place] == mine
        return found

    def _blocks(self) -> Iterator[range]:
        """Yield ranges of users that have about `_BLOCK` interactions together, or one user."""
        start = 0
        while start < self.n_users:
            wanted = self.indptr[start] + _BLOCK
            stop = int(np.searchsorted(self.indptr, wanted, side="right")) - 1
            stop = max(stop, start + 1)
            yield range(start, stop)
            start = stop

    def _keys(self, users: range) -> np.ndarray:
        """Return int64 `user * n_items + item` of the interactions of some consecutive users."""
        indptr = self.indptr[users.start : users.stop + 1]
        first = np.arange(users.start, users.stop) * self.n_items
        keys: np.ndarray = np.repeat(first, np.diff(indptr))
        keys += self.indices[indptr[0] : indptr[-1]]
        return keys

    def union(self, other: "Interactions") -> "Interactions":
        """Return the pairs of either, in the same vocabularies.

        Time and weight are kept where both have them; a pair of both gets the last time and the
        sum of the weights.
        """
        self._check_same(other)
        together = {
            name: np.concatenate([mine, theirs])
            for name in ("time", "weight")
            if (mine := getattr(self, name)) is not None
            and (theirs := getattr(other, name)) is not None
        }
        merged = Interactions.from_pairs(
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.indices, other.indices]),
            users=self.users,
            items=self.items,
            **together,
        )
        return replace(merged, n_duplicates=0)

    def reindex(self, users: Vocabulary, items: Vocabulary) -> "Interactions":
        """Express the same pairs in other vocabularies.

        Args:
            users: a vocabulary with every user that has interactions here.
            items: a vocabulary with every item that has interactions here.

        Raises:
            DataError: an id with interactions is not in them.
        """
        if users is self.users and items is self.items:
            return self
        if users == self.users and items == self.items:
            return replace(self, users=users, items=items)
        pairs = []
        for kind, old, new, used in (
            ("user", self.users, users, self.rows),
            ("item", self.items, items, self.indices),
        ):
            index = new.index(old.ids)[used]
            if (index < 0).any():
                missing = old.ids[int(used[int(np.argmin(index))])]
                raise DataError(f"{kind} {missing!r} is not in the vocabulary to reindex to.")
            pairs.append(index)
        moved = Interactions.from_pairs(
            *pairs, users=users, items=items, time=self.time, weight=self.weight
        )
        return replace(moved, n_duplicates=self.n_duplicates)

    def to_scipy(self) -> "csr_matrix":
        """Return a float32 matrix `[n_users, n_items]`: the weights, or ones."""
        from scipy.sparse import csr_matrix

        values = np.ones(self.nnz, dtype=np.float32) if self.weight is None else self.weight
        return csr_matrix((values, self.indices, self.indptr), shape=(self.n_users, self.n_items))

    def _check_same(self, other: "Interactions") -> None:
        if not (self.users is other.users or self.users == other.users) or not (
            self.items is other.items or self.items == other.items
        ):
            raise DataError("interactions must be in the same vocabularies; `reindex` one of them.")
