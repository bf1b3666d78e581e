"""Ranking by several workers for an evaluation: each ranks the items for some of the users."""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contrarec.data.dataset import TestSet
from contrarec.distributed.cluster import Launch, cluster, load_ray
from contrarec.distributed.parts import cut_rows
from contrarec.distributed.tasks import Tasks
from contrarec.evaluation.protocol import Rank
from contrarec.evaluation.ranking import Scorer, rows_at_once, top_k
from contrarec.rankings import Rows
from contrarec.recommender import Recommender


@contextmanager
def ranking_together(run: Path, n_items: int, *, launch: Launch) -> Iterator[Rank]:
    """Start workers that rank for `Recommender.evaluate`, as it would by itself.

    A user's list goes back through Ray; the rest of an evaluation is the driver's.

    Args:
        run: folder of the run, which all machines see.
        n_items: items of its model.
        launch: how many workers, and where.

    Raises:
        BackendError: Ray is not installed, has too little to give, or workers died again and again.
    """
    ray, folder = load_ray(local=launch.address is None), str(run.resolve())
    with cluster(ray, launch) as on_gpu:
        tasks, device = Tasks(ray, launch, on_gpu=on_gpu), "cuda" if on_gpu else "cpu"

        def rank(
            scorer: Scorer, test: TestSet, users: NDArray[np.int64], k: int
        ) -> NDArray[np.int32]:
            mask = test.mask and Rows(test.mask.indptr, test.mask.indices)
            stored = ray.put(pickle.dumps((mask, test.candidates)))
            lists = np.empty((len(users), k), np.int32)
            step = rows_at_once(scorer, len(users), n_items)
            parts = cut_rows(len(users), launch.workers, step)
            calls = [(folder, device, stored, users[part], k) for part in parts]
            for position, found in tasks.run(_rank, calls):
                lists[parts[position]] = found
            return lists

        yield rank


@lru_cache(maxsize=1)
def _scorer(folder: str, device: str) -> tuple[Scorer, int]:
    """Open a run once for all of its test sets; a worker's process ends with the driver's."""
    model = Recommender.load(folder, device=device).model
    return model.scorer(), model.history.n_items


def _rank(
    folder: str, device: str, stored: bytes, users: NDArray[np.int64], k: int
) -> NDArray[np.int32]:
    mask, candidates = pickle.loads(stored)
    scorer, n_items = _scorer(folder, device)
    items, _ = top_k(scorer, users, k, n_items=n_items, mask=mask, candidates=candidates)
    return items
