"""Full ranking with history masked against the bare matrix product, and a whole evaluation."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csr_matrix

import contrarec as cr
from benchmarks.record import Row, ensure, pair, single
from benchmarks.worlds import histories
from contrarec.evaluation.ranking import default_block_size, dot_scorer, top_k

RANKING = "evaluation: top-20, history masked"
WHOLE = "evaluation: all metrics"
DIM = 64
K = 20


def rows(
    data: Path | None,
    *,
    short: bool,
    n_users: int = 95_000,
    n_items: int = 42_000,
    n_interactions: int = 950_000,
) -> Iterator[Row]:
    """Yield the ranking of all users over all items, and with `data` `evaluate` on Yahoo! R3."""
    ranking = Ranking(n_users, n_items, n_interactions)
    ranking.check()
    yield {
        "what": RANKING,
        "shape": f"{n_users:,} users × {n_items:,} items, dim {DIM}",
        "other": "torch, the product alone, same blocks",
    } | pair(ranking.rank, ranking.product, 1 if short else 5)
    if data is not None:
        yield _whole(data, short)


class Ranking:
    """Both sides of the comparison, on random vectors."""

    def __init__(self, n_users: int, n_items: int, n_interactions: int) -> None:
        g = torch.Generator().manual_seed(0)
        self.U, self.V = (torch.randn(n, DIM, generator=g) for n in (n_users, n_items))
        indptr, indices = histories(n_users, n_items, n_interactions)
        ones = np.ones(len(indices), np.int8)
        self.history = csr_matrix((ones, indices, indptr), (n_users, n_items))
        self.users = np.arange(n_users)

    def rank(self) -> np.ndarray:
        """Return the best items of every user, without its history."""
        scorer = dot_scorer(self.U, self.V)
        return top_k(scorer, self.users, K, n_items=len(self.V), mask=self.history)[0]

    def product(self) -> None:
        """Compute all scores, block by block, into one buffer."""
        size = default_block_size(len(self.V))
        buffer = torch.empty(size, len(self.V))
        for start in range(0, len(self.U), size):
            block = self.U[start : start + size]
            torch.mm(block, self.V.T, out=buffer[: len(block)])

    def check(self) -> None:
        """Compare a few users with a sort in NumPy."""
        some = self.users[:: max(1, len(self.users) // 50)]
        found, _ = top_k(
            dot_scorer(self.U, self.V), some, K, n_items=len(self.V), mask=self.history
        )
        scores = (self.U[some] @ self.V.T).numpy()
        scores[self.history[some].nonzero()] = -np.inf
        best = np.take_along_axis(scores, found.astype(np.int64), 1)
        ensure(bool(np.isfinite(best).all()), "an item of the history was ranked")
        wanted = -np.sort(-scores, axis=1)[:, :K]
        ensure(np.allclose(best, wanted, rtol=1e-5), "not the best items, or not in their order")


def _whole(data: Path, short: bool) -> Row:
    yahoo = cr.Dataset.load(data / "yahoo-r3")
    g = torch.Generator().manual_seed(0)
    U, V = (torch.randn(n, DIM, generator=g) for n in (yahoo.n_users, yahoo.n_items))
    scorer, test = dot_scorer(U, V), yahoo.tests["ood"]
    got = cr.evaluate(scorer, test).metrics()
    want = cr.evaluate(scorer, test, backend="reference").metrics()
    ensure(got == want, f"compiled {got}, reference {want}")
    users = int((test.truth.user_counts > 0).sum())
    shape = f"Yahoo! R3, {users:,} users × {yahoo.n_items:,} items"
    timed = single(lambda: cr.evaluate(scorer, test), 3 if short else 15)
    return {"what": WHOLE, "shape": shape, "rate": users / timed["seconds"]} | timed
