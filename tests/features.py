"""A small world in which given item vectors tell the truth, also about items nobody has had."""

import numpy as np
import polars as pl

from contrarec import Dataset

TASTES, N_USERS, N_SEEN, N_ITEMS = 4, 40, 32, 40
SMALL = {
    "dim": 8, "batch_size": 64, "n_neg": 8, "epochs": 20, "eval_every": 5, "lr": 0.02,
    "ks": (5,), "monitor": "recall@5",
}  # fmt: skip


def write_features(path, *, seed=0, n_items=N_ITEMS, column="item_id"):
    """Write a Parquet file of vectors: of item `i<n>` its taste, n mod 4, and noise."""
    rng = np.random.default_rng(seed)
    tastes = np.eye(TASTES)[np.arange(n_items) % TASTES]
    vectors = np.hstack([tastes, 0.1 * rng.standard_normal((n_items, 12))])
    order = rng.permutation(n_items)  # a file need not be in the order of the data
    ids = [f"i{item}" for item in order]
    pl.DataFrame({column: ids, "vector": vectors[order].tolist()}).write_parquet(path)
    return path


def tastes_data(name="tastes"):
    """Each user has 6 of the 8 items of its taste that are in the log; one more is in `valid`.

    Items 32 to 35 are in the test set `cold` alone, each user's of its taste; 36 to 39 nowhere.
    """
    rows = {"train": [], "valid": [], "cold": []}
    rng = np.random.default_rng(1)
    for user in range(N_USERS):
        items = rng.permutation(np.arange(user % TASTES, N_SEEN, TASTES))
        rows["train"] += [(f"u{user}", f"i{item}") for item in items[:6]]
        rows["valid"] += [(f"u{user}", f"i{items[6]}")]
        rows["cold"] += [(f"u{user}", f"i{N_SEEN + user % TASTES}")]
    frames = {
        part: pl.DataFrame(pairs, schema=["user", "item"], orient="row")
        for part, pairs in rows.items()
    }
    return Dataset.from_parts(
        train=frames["train"], valid=frames["valid"], tests={"cold": frames["cold"]}, name=name
    )


def unseen_of_taste(data, user):
    """The items of a user's taste that are not in its history: two of the log, two of no log."""
    log = data.train
    (row,) = log.users.index([user])
    seen = log.items.take(log.indices[log.indptr[row] : log.indptr[row + 1]]).to_list()
    taste = int(user[1:]) % TASTES
    return {f"i{item}" for item in range(taste, N_ITEMS, TASTES)} - set(seen)
