"""What a data set holds, and how far each part's item popularity is from training's."""

from typing import TYPE_CHECKING, Any

import numpy as np

from contrarec.data.interactions import Interactions

if TYPE_CHECKING:
    from contrarec.data.dataset import Dataset

SMOOTHING = 1.0
"""Added to every item's count before the divergence is taken."""


def popularity_kl(part: np.ndarray, train: np.ndarray, *, smoothing: float = SMOOTHING) -> float:
    """Return the KL divergence of one item popularity to another, in nats.

    `Σ_i p_i log(p_i / q_i)` with `p_i = (n_i + a) / Σ_j (n_j + a)`, where `n_i` are the counts
    of `part` and for q those of `train`. Without smoothing, an item that train does not have
    would make it infinite.

    Args:
        part: `[n_items]` interactions with each item in the part that is looked at.
        train: `[n_items]` the same in training.
        smoothing: a, positive.

    >>> popularity_kl(np.array([3, 1]), np.array([3, 1]))
    0.0
    >>> round(popularity_kl(np.array([7, 1]), np.array([0, 0])), 4)  # p = .8, .2; q = .5, .5
    0.1927
    """
    p, q = part + smoothing, train + smoothing
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())


def describe(data: "Dataset") -> dict[str, Any]:
    """Describe a data set in plain values, ready for JSON.

    Returns:
        `name`, `users`, `items` (of all parts together), `candidates` (items that may be ranked),
        `popularity_kl` (how the divergence is defined), `notes`, and `parts`: for each part its
        `users` and `items` that have interactions, `interactions`, `duplicates` (repeated pairs
        collapsed while reading), `popularity_kl` to train, and, but for train, `unseen_users` and
        `unseen_items`: those with interactions here and none in train.
    """
    train = data.train
    parts = {}
    for name, log in data.parts.items():
        parts[name] = {
            "users": int((log.user_counts > 0).sum()),
            "items": int((log.item_counts > 0).sum()),
            "interactions": log.nnz,
            "duplicates": log.n_duplicates,
            "popularity_kl": popularity_kl(log.item_counts, train.item_counts),
        }
        if name != "train":
            users, items = unseen(log, train)
            parts[name] |= {"unseen_users": int(users.sum()), "unseen_items": int(items.sum())}
    return {
        "name": data.name,
        "users": data.n_users,
        "items": data.n_items,
        "candidates": data.n_items if data.candidates is None else len(data.candidates),
        "popularity_kl": (
            "KL(part || train) of item popularity in nats, "
            f"{SMOOTHING:g} added to the count of each of the {data.n_items} items"
        ),
        "parts": parts,
        "notes": list(data.notes),
    }


def unseen(part: Interactions, train: Interactions) -> tuple[np.ndarray, np.ndarray]:
    """Tell which users (bool `[n_users]`) and items (`[n_items]`) `part` has and train has not."""
    return (
        (part.user_counts > 0) & (train.user_counts == 0),
        (part.item_counts > 0) & (train.item_counts == 0),
    )


def unseen_notes(data: "Dataset") -> tuple[str, ...]:
    """Say for each part how many users and items training does not know, where there are any."""
    notes = []
    for name, log in data.parts.items():
        users, items = (int(who.sum()) for who in unseen(log, data.train))
        if users or items:
            notes.append(f"{name}: {users} users and {items} items without training interactions")
    return tuple(notes)
