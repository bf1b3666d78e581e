"""With known propensities IPS is unbiased and the plain mean is not: worlds drawn many times.

A world's liked pairs are fixed, and so are the lists. What the log shows is drawn: each liked pair
with its item's exposure. The mean of an estimate over draws is compared with the truth by a z-test;
|z| > 4.5 happens by chance with a probability below 1e-5.
"""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from contrarec.audit.config import AuditConfig
from contrarec.audit.plan import make_plan
from contrarec.audit.shift import split_log
from contrarec.audit.unbiased import make_weights, unbiased_metrics, user_sums
from contrarec.data.dataset import Dataset
from contrarec.data.synthetic import SyntheticConfig, World, synthesize

K, DRAWS, Z = 10, 400, 4.5


@pytest.fixture(scope="module")
def world() -> World:
    config = SyntheticConfig(n_users=200, n_items=80, n_preferred=15, dim=4, bias=1.2)
    return synthesize(config, seed=3)


@pytest.fixture(scope="module")
def lists(world: World) -> np.ndarray:
    """Lists that favour what the log shows often, so that a biased log flatters them."""
    affinity = world.user_vectors @ world.item_vectors.T
    scores = affinity + 0.8 * np.log(world.exposure)
    return np.argsort(-scores, axis=1)[:, :K].astype(np.int32)


def truth_of(world: World, lists: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recall and dcg over all liked pairs, and the same per user; counted pair by pair."""
    liked = world.preferred
    sums = np.zeros(2)
    for user, item in zip(liked.rows, liked.indices, strict=True):
        rank = np.flatnonzero(lists[user] == item)
        if len(rank):
            sums += [1, 1 / np.log2(rank[0] + 2)]
    return sums / liked.nnz, sums / liked.n_users


def test_ips_is_unbiased_and_the_plain_mean_is_not(world: World, lists: np.ndarray) -> None:
    over_positives, per_user = truth_of(world, lists)
    rng, scale = np.random.default_rng(0), 0.4
    chance = world.exposure[world.preferred.indices] * scale
    plain, snips, ips, covered = [], [], [], []
    for _ in range(DRAWS):
        shown = world.preferred.select(rng.random(world.preferred.nnz) < chance)
        users = np.flatnonzero(shown.user_counts)
        weights = make_weights(
            world.exposure[shown.indices], clip=0, scale=scale, n_population=shown.n_users
        )
        found = unbiased_metrics(
            user_sums(lists[users], users, shown, np.ones(shown.nnz)),
            user_sums(lists[users], users, shown, weights.values),
            users, shown, weights, K,
        )  # fmt: skip
        plain.append([value.plain[0] for value in found])
        snips.append([value.snips[0] for value in found])
        assert all(value.ips is not None for value in found)
        ips.append([value.ips[0] for value in found if value.ips])
        covered.append(
            [
                value.snips[1] <= t <= value.snips[2]
                for value, t in zip(found, over_positives, strict=True)
            ]
        )

    def z(values: list[list[float]], truth: np.ndarray) -> np.ndarray:
        table = np.array(values)
        return (table.mean(0) - truth) / (table.std(0, ddof=1) / np.sqrt(DRAWS))

    assert (np.abs(z(ips, per_user)) < Z).all()
    assert (np.abs(z(plain, over_positives)) > 4 * Z).all()  # not by a hair
    # a ratio: biased, but by far less than its own spread, and by far less than the plain mean
    error = np.abs(np.mean(snips, axis=0) - over_positives)
    assert (error < 0.25 * np.std(snips, axis=0)).all()
    assert (error < 0.1 * np.abs(np.mean(plain, axis=0) - over_positives)).all()
    # 95 % intervals: below 90 % in 400 draws would be 4.6 standard deviations away
    assert (np.mean(covered, axis=0) > 0.9).all()


def test_ips_is_unbiased_after_shifted_sets_were_taken(
    world: World, lists: np.ndarray, tmp_path: Path
) -> None:
    """A tenth of the log went into a set of equally popular items, mostly from the rare ones."""
    path = tmp_path / "p.csv"
    pl.DataFrame({"item_id": np.arange(80), "propensity": world.exposure}).write_csv(path)
    config = AuditConfig(k=K, propensities=path, clip=0.0)
    _, per_user = truth_of(world, lists)
    rng, found = np.random.default_rng(1), []
    for draw in range(DRAWS // 2):
        shown = rng.random(world.preferred.nnz) < world.exposure[world.preferred.indices]
        log = Dataset.from_parts(train=world.preferred.select(shown))
        data = split_log(log, ("uniform",), share=0.15, seed=draw)
        weights = make_plan(data, config, "log", K).weights["id"]
        truth = data.tests["id"].truth
        users = np.flatnonzero(truth.user_counts)
        sums = user_sums(lists[users], users, truth, weights.values)
        metrics = unbiased_metrics(sums, sums, users, truth, weights, K)
        found.append([value.ips[0] for value in metrics if value.ips])
    table = np.array(found)
    z = (table.mean(0) - per_user) / (table.std(0, ddof=1) / np.sqrt(len(table)))
    assert (np.abs(z) < Z).all()
