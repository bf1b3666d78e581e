"""Item-based nearest neighbours: a user is offered what is near to the items of its history."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from contrarec.baselines.base import Baseline, binary
from contrarec.config import require, settle
from contrarec.data.interactions import Interactions
from contrarec.evaluation.ranking import Scorer

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_BLOCK = 1 << 22  # similarities in memory at a time, if all that may be there were


@dataclass(frozen=True, kw_only=True)
class ItemKNNConfig:
    """Hyper-parameters of item-KNN."""

    n_neighbours: int = 100
    """How many neighbours an item keeps."""
    shrink: float = 10.0
    """Added to the norms' product: takes weight from similarities that few users stand behind."""

    def __post_init__(self) -> None:
        settle(self)
        require(self.n_neighbours >= 1, "n_neighbours", "be at least 1", self.n_neighbours)
        require(0 <= self.shrink < math.inf, "shrink", "not be negative", self.shrink)


class ItemKNN(Baseline):
    """Cosines between items, shrunk; each item keeps its nearest.

    `s_ij = |U_i ∩ U_j| / (√|U_i| √|U_j| + shrink)` with `U_i` the users of item i, and the score of
    item j for a user is the sum of `s_ij` over those items i of its history that have j among their
    nearest. Among equal similarities the lowest index wins.

    **Source**: Deshpande and Karypis, "Item-based top-N recommendation algorithms", ACM TOIS 2004;
    the shrinkage as in Ferrari Dacrema et al., RecSys 2019.
    """

    config_class: ClassVar[type[Any]] = ItemKNNConfig
    rows: ClassVar[Mapping[str, str]] = {"neighbours": "n_items", "similarities": "n_items"}

    @classmethod
    def fit(
        cls,
        train: Interactions,
        config: ItemKNNConfig,
        rng: np.random.Generator,  # noqa: ARG003
    ) -> Self:
        """Find the nearest items of each item.

        Similarities are computed for some items at a time, as sparse as they are; what is kept is
        `[n_items, n_neighbours]`, with -1 and 0 where an item has fewer neighbours.
        """
        width = min(config.n_neighbours, train.n_items)
        neighbours = np.full((train.n_items, width), -1, np.int32)
        similarities = np.zeros((train.n_items, width), np.float32)
        pairs = binary(train)
        by_item = pairs.T.tocsr()
        norms = np.sqrt(train.item_counts)
        for items in _blocks(train):
            near = (by_item[items.start : items.stop] @ pairs).tocoo()  # users in common, [b, I]
            other = near.row + items.start != near.col
            row, column, common = near.row[other], near.col[other], near.data[other]
            similar = common / (norms[row + items.start] * norms[column] + config.shrink)
            best = np.lexsort((column, -similar, row))
            row = row[best]
            rank = np.arange(len(row)) - np.searchsorted(row, row)  # within its row
            best, row, rank = (part[rank < width] for part in (best, row, rank))
            neighbours[row + items.start, rank] = column[best]
            similarities[row + items.start, rank] = similar[best]
        tensors = {
            "neighbours": torch.from_numpy(neighbours),
            "similarities": torch.from_numpy(similarities),
        }
        return cls(tensors, train, config)

    def fold_in(self, history: Interactions) -> Scorer:
        """Return the scorer for the users of a history."""
        pairs, similarities = binary(history), self._matrix()

        def score(users: NDArray[np.int64], /) -> torch.Tensor:
            return torch.from_numpy((pairs[users] @ similarities).toarray())

        return score

    def similar(self) -> Scorer:
        """Return the scorer of the items that an item keeps; the others get -inf."""
        neighbours, similarities = (self.tensors[name].numpy() for name in self.rows)

        def score(items: NDArray[np.int64], /) -> torch.Tensor:
            scores = np.full((len(items), self.history.n_items), -np.inf, np.float32)
            near, similarity = neighbours[items], similarities[items]
            row, rank = (near >= 0).nonzero()
            scores[row, near[row, rank]] = similarity[row, rank]
            return torch.from_numpy(scores)

        return score

    def _matrix(self) -> "csr_matrix":
        """Return `s_ij` of the neighbours, `[n_items, n_items]`."""
        from scipy.sparse import csr_matrix

        neighbours, similarities = (self.tensors[name].numpy() for name in self.rows)
        kept = neighbours >= 0
        indptr = np.append(0, np.cumsum(kept.sum(1)))
        shape = (len(neighbours), len(neighbours))
        return csr_matrix((similarities[kept], neighbours[kept], indptr), shape=shape)


def _blocks(train: Interactions) -> Iterator[range]:
    """Yield ranges of items with no more than `_BLOCK` similarities together, or one item."""
    reach = np.zeros(train.n_items)  # an item meets no more others than its users have items
    np.add.at(reach, train.indices, np.repeat(train.user_counts, train.user_counts))
    ends = np.cumsum(np.minimum(reach, train.n_items))
    start = 0
    while start < train.n_items:
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _BLOCK, side="right")))
        yield range(start, stop)
        start = stop
