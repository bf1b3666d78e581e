"""A small model made of random vectors, and what it should answer, by loops."""

import numpy as np

from contrarec.answers import Answers
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.rankings import VectorRanking

N_USERS, N_ITEMS, DIM = 14, 11, 4


def small_history() -> Interactions:
    """Random histories of 14 users (`u00` …) and 11 items (`i00` …); the last user has none."""
    rng = np.random.default_rng(3)
    pairs = np.argwhere(rng.random((N_USERS - 1, N_ITEMS)) < 0.3)
    return Interactions.from_pairs(
        pairs[:, 0],
        pairs[:, 1],
        users=Vocabulary.of(f"u{n:02}" for n in range(N_USERS)),
        items=Vocabulary.of(f"i{n:02}" for n in range(N_ITEMS)),
    )


def small_vectors() -> tuple[np.ndarray, np.ndarray]:
    """Vectors of few distinct numbers, so that scores tie."""
    rng = np.random.default_rng(5)
    users, items = (rng.integers(-1, 2, (n, DIM)) for n in (N_USERS, N_ITEMS))
    return users.astype(np.float32), items.astype(np.float32)


def small_answers() -> Answers:
    """Answers of the vectors for the histories."""
    users, items = small_vectors()
    units = items / np.maximum(np.linalg.norm(items, axis=1, keepdims=True), 1e-12)
    return Answers(
        history=small_history(),
        frame="polars",
        ranking=VectorRanking(users, items),
        neighbours=lambda: VectorRanking(units, units),
    )


def naive_lists(users: list[str], k: int, banned: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The best k items of each user, ties by index, without what is banned for that user."""
    history, (u, i) = small_history(), small_vectors()
    lists = []
    for name in users:
        row = int(name[1:]) if name[1:].isdigit() else N_USERS
        cold = row >= N_USERS - 1
        scores = [
            history.item_counts[item] if cold else float(sum(u[row] * i[item]))
            for item in range(N_ITEMS)
        ]
        left = [n for n in range(N_ITEMS) if f"i{n:02}" not in banned.get(name, set())]
        best = sorted(left, key=lambda n: (-scores[n], n))[:k]
        lists += [(name, f"i{n:02}") for n in best]
    return lists


def seen(user: str) -> set[str]:
    """The user's history."""
    history = small_history()
    row = int(user[1:]) if user[1:].isdigit() else N_USERS
    if row >= N_USERS:
        return set()
    return {f"i{n:02}" for n in history.indices[history.indptr[row] : history.indptr[row + 1]]}
