"""A run opened for a few questions: by its stored vectors where it has any, without torch."""

from functools import partial
from pathlib import Path

import numpy as np

from contrarec import runs
from contrarec.answers import Answers
from contrarec.rankings import VectorRanking

MANY_SCORES = 1 << 24
"""From so many scores on, loading torch and compiled code pays."""


def open_run(folder: str | Path, *, device: str = "auto") -> Answers:
    """Open a run for a few users or items.

    Args:
        folder: the run's.
        device: `auto` and `cpu` take the vectors that a run keeps; `cuda`, or a run without any,
            takes the model.

    Raises:
        DataError: the folder holds no finished run, or a file is damaged.
        BackendError: the device is not there.
    """
    stored = open_stored(folder) if device in ("auto", "cpu") else None
    return open_model(folder, device=device) if stored is None else stored


def open_stored(folder: str | Path) -> Answers | None:
    """Open a run by its vectors; None if it keeps none.

    Raises:
        DataError: the folder holds no run, or a file is damaged.
    """
    found = runs.map_stored(Path(folder))
    if found is None:
        return None
    history, vectors, data = found
    users, items = vectors["users"], vectors["items"]
    return Answers(
        history=history,
        frame=data.frame,
        ranking=VectorRanking(users, items),
        neighbours=partial(_neighbours, vectors.get("units", items)),
    )


def open_model(folder: str | Path, *, device: str = "auto") -> Answers:
    """Open a run by its model, for many users."""
    from contrarec.recommender import Recommender

    return Recommender.load(folder, device=device).answers()


def _neighbours(vectors: np.ndarray) -> VectorRanking:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.maximum(lengths, np.float32(1e-12))
    return VectorRanking(units, units)
