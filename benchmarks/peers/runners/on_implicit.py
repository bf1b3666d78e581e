"""Runner of implicit: ALS and BPR."""

from typing import Any

import implicit
import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from implicit.cpu.bpr import BayesianPersonalizedRanking
from scipy.sparse import csr_matrix
from turns import Turns

FOREVER = 100_000


def main() -> None:
    """Train until the driver has had enough."""
    turns = Turns()
    job = turns.job
    kind = {"als": AlternatingLeastSquares, "bpr": BayesianPersonalizedRanking}[job.model]
    model = kind(
        factors=job.dim,
        iterations=FOREVER,
        num_threads=job.threads,
        random_state=job.seed,
        **job.options,
    )
    ones = np.ones(len(job.indices), np.float32)
    matrix = csr_matrix((ones, job.indices, job.indptr), shape=(job.n_users, job.n_items))

    def vectors() -> tuple[np.ndarray, np.ndarray]:
        return model.user_factors, model.item_factors  # BPR's bias is a column of them

    def scores(user: int) -> np.ndarray:
        items, found = model.recommend(
            user, matrix[user], N=job.n_items, filter_already_liked_items=False
        )
        return found[np.argsort(items)]

    def after_epoch(*_: Any) -> None:
        turns.trained(vectors, scores)

    negatives = {"als": "all", "bpr": 1}[job.model]
    turns.begin(version=implicit.__version__, negatives=negatives)
    model.fit(matrix, show_progress=False, callback=after_epoch)


if __name__ == "__main__":
    main()
