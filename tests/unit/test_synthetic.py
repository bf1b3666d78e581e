"""Synthetic worlds: who likes what, who was shown what, and that memory stays bounded."""

import tracemalloc

import numpy as np
import pytest

from contrarec.data import synthetic
from contrarec.data.checks import check
from contrarec.data.splits import PopularityShift
from contrarec.data.synthetic import SyntheticConfig, synthesize
from contrarec.errors import ConfigError

SMALL = SyntheticConfig(n_users=300, n_items=80, n_preferred=20, dim=4)


@pytest.fixture(scope="module")
def world():
    return synthesize(SMALL, seed=1)


@pytest.fixture(scope="module")
def default_world():
    return synthesize()


def test_users_like_the_items_of_highest_affinity(world):
    affinity = world.user_vectors @ world.item_vectors.T
    likes = world.preferred.to_scipy().toarray() > 0
    assert likes.sum(1).tolist() == [20] * 300
    least_liked = np.where(likes, affinity, np.inf).min(1)
    most_disliked = np.where(likes, -np.inf, affinity).max(1)
    assert (least_liked > most_disliked).all()
    assert np.linalg.norm(world.item_vectors, axis=1) == pytest.approx(1)


def test_every_liked_pair_has_exactly_one_fate(world):
    parts = world.dataset.parts
    assert list(parts) == ["train", "valid", "id", "shifted", "uniform"]
    keys = np.concatenate([part.keys for part in parts.values()])
    assert len(np.unique(keys)) == len(keys)
    assert np.isin(keys, world.preferred.keys).all()
    log = np.concatenate([parts[name].keys for name in ("train", "valid", "id")])
    # What is liked is either in the log or a false negative.
    assert np.array_equal(
        np.sort(np.concatenate([log, world.false_negatives.keys])), world.preferred.keys
    )
    for name in ("shifted", "uniform"):
        assert parts[name].isin(world.false_negatives).all()


def test_the_shares_are_those_asked_for(default_world):
    config, parts = SyntheticConfig(), default_world.dataset.parts
    n = default_world.preferred.nnz
    assert n == 1500 * 60
    for name in ("uniform", "shifted"):
        error = np.sqrt(n * 0.1 * 0.9)  # of a binomial, or less
        assert abs(parts[name].nnz - 0.1 * n) < 5 * error
    log = sum(parts[name].nnz for name in ("train", "valid", "id"))
    assert parts["id"].nnz == round(config.held_out * log)
    assert parts["valid"].nnz == round(config.held_out * (log - parts["id"].nnz))
    weights = default_world.preferred.item_counts
    assert np.average(default_world.exposure, weights=weights) == pytest.approx(0.3)


def z_scores(held, of, chance):
    """How far each item's count is from a binomial's mean, in standard deviations."""
    spread = np.sqrt(of * chance * (1 - chance))
    return ((held - of * chance) / np.where(spread > 0, spread, 1))[spread > 0]


def test_each_exposure_is_what_it_says_for_every_item(default_world):
    world = default_world
    liked, parts = world.preferred.item_counts, world.dataset.parts
    uniform = parts["uniform"].item_counts
    assert np.abs(z_scores(uniform, liked, 0.1)).max() < 4.5  # 600 items, normal tails
    left = liked - uniform - parts["shifted"].item_counts
    log = sum(parts[name].item_counts for name in ("train", "valid", "id"))
    z = z_scores(log, left, world.exposure)
    assert np.abs(z).max() < 4.5
    assert z.std() == pytest.approx(1, abs=0.12)


def test_exposure_falls_with_the_rank_and_has_nothing_to_do_with_liking(default_world):
    ordered = np.sort(default_world.exposure)[::-1]
    assert ordered[0] == 1
    below = ordered[ordered < 1]
    ranks = np.arange(len(ordered) - len(below), len(ordered)) + 1
    assert below * ranks == pytest.approx(below[0] * ranks[0])  # bias 1: in proportion to 1/rank
    liked = default_world.preferred.item_counts
    assert abs(np.corrcoef(default_world.exposure, liked)[0, 1]) < 4 / np.sqrt(len(liked))


def test_shifted_follows_its_curve(default_world):
    world = default_world
    groups = np.argsort(-world.exposure, kind="stable").reshape(10, -1)
    held = world.dataset.parts["shifted"].item_counts[groups].sum(1)
    rate = held / world.preferred.item_counts[groups].sum(1)
    curve = 2.0 ** (-np.arange(10) / 9)
    # Ties at exposure 1 may sit in the wrong group, but only among the first few.
    error = 4 * np.sqrt(0.1 / world.preferred.item_counts[groups].sum(1))
    assert (np.abs(rate - 0.1 * curve / curve.mean()) < error + 0.004).all()


def test_shift_grows_from_id_over_shifted_to_uniform(default_world):
    parts = default_world.dataset.describe()["parts"]
    shift = [parts[name]["popularity_kl"] for name in ("id", "shifted", "uniform")]
    assert shift[0] + 0.05 < shift[1] < shift[2] - 0.05


def test_popularity_helps_in_distribution_and_not_out_of_it(default_world):
    """The world is worth training in: popularity finds ID positives and knows nothing of taste."""
    data = default_world.dataset
    counts = data.train.item_counts
    affinity = default_world.user_vectors @ default_world.item_vectors.T

    def recall(scores, name, k=20):
        test = data.tests[name]
        scores = np.where(test.mask.to_scipy().toarray() > 0, -np.inf, scores)
        top = np.argpartition(-scores, k, axis=1)[:, :k]
        hits = np.take_along_axis(test.truth.to_scipy().toarray(), top, 1).sum(1)
        users = test.truth.user_counts > 0
        return (hits[users] / test.truth.user_counts[users]).mean()

    popular = np.broadcast_to(counts, affinity.shape)
    assert recall(popular, "id") > 2 * recall(popular, "uniform")
    for name in data.tests:
        assert recall(affinity, name) > 0.35  # one who knows the tastes
    assert recall(popular, "uniform") < 0.06


def test_a_world_is_decided_by_its_seed(world):
    again, other = synthesize(SMALL, seed=1), synthesize(SMALL, seed=2)
    for name, part in world.dataset.parts.items():
        assert np.array_equal(part.keys, again.dataset.parts[name].keys)
    assert world.dataset.fingerprint() == again.dataset.fingerprint()
    assert world.dataset.fingerprint() != other.dataset.fingerprint()


def test_the_block_size_changes_nothing(world, monkeypatch):
    monkeypatch.setattr(synthetic, "_BLOCK", 7 * SMALL.n_items)
    assert synthesize(SMALL, seed=1).dataset.fingerprint() == world.dataset.fingerprint()


def test_memory_is_far_below_users_times_items():
    config = SyntheticConfig(n_users=6000, n_items=4000, n_preferred=20, dim=4)
    tracemalloc.start()
    try:
        synthesize(config)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    dense = 6000 * 4000 * 8
    assert peak < 0.6 * dense  # a block of 4 M affinities, its ranks, and the pairs


def test_it_passes_its_own_checks(default_world):
    assert [finding for finding in check(default_world.dataset) if finding.level == "error"] == []


def test_even_exposure_is_no_shift():
    even = synthesize(SyntheticConfig(bias=0.0, gamma=1.0))
    assert np.ptp(even.exposure) == 0
    parts = even.dataset.describe()["parts"]
    assert abs(parts["uniform"]["popularity_kl"] - parts["shifted"]["popularity_kl"]) < 0.01
    assert PopularityShift(gamma=1.0).curve(np.array([3, 1])).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"n_users": 0}, "`n_users` must be at least 1, got 0"),
        ({"n_preferred": 600}, "`n_preferred` must be below `n_items` = 600, got 600"),
        ({"exposure": 1.0}, "`exposure` must be above 0 and below 1, got 1.0"),
        ({"experiment": 0.5}, "`experiment` must be above 0 and below ½, got 0.5"),
        ({"bias": -1.0}, "`bias` must be non-negative, got -1.0"),
        ({"gamma": 0.0}, "`gamma` must be positive and finite, got 0.0"),
    ],
)
def test_settings_out_of_range(setting, message):
    with pytest.raises(ConfigError, match=message):
        SyntheticConfig(**setting)
