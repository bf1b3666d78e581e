"""What a popularity shift holds out, over many seeds.

Each test compares sums of independent draws with their expectation; a threshold of 5 standard
errors for some hundred comparisons gives a false alarm in about one of 10,000 sets of seeds, and
the seeds are fixed.
"""

import numpy as np
import pytest
from scipy.stats import chisquare

from contrarec.data.interactions import Interactions
from contrarec.data.splits import PopularityShift, Random
from contrarec.data.vocabulary import Vocabulary


def zipf_log(n_users, n_items, slope, seed):
    """Every user has item i with a probability that falls with its rank."""
    rng = np.random.default_rng(seed)
    chance = np.minimum(1, 0.6 * np.arange(1, n_items + 1) ** -slope)
    users, items = np.nonzero(rng.random((n_users, n_items)) < rng.permutation(chance))
    return Interactions.from_pairs(
        users, items, users=Vocabulary.of(range(n_users)), items=Vocabulary.of(range(n_items))
    )


LOG = zipf_log(400, 60, 0.5, seed=1)


@pytest.mark.parametrize("gamma", [200.0, 10.0, 2.0, 1.0, 0.5])
def test_popularity_in_the_test_set_follows_the_curve(gamma):
    n_groups = 6
    split = PopularityShift(gamma=gamma, fraction=0.15, n_groups=n_groups)
    assert split.account(LOG, np.zeros(LOG.nnz, dtype=bool)).count("quota") == 0  # none is short
    ranked = np.argsort(-LOG.item_counts, kind="stable").reshape(n_groups, -1)
    held = np.zeros(LOG.n_items)
    n_seeds = 60
    for seed in range(n_seeds):
        part = LOG.select(split.take(LOG, np.random.default_rng(seed)))
        assert part.nnz == round(0.15 * LOG.nnz)
        held += part.item_counts
    curve = gamma ** (-np.arange(n_groups) / (n_groups - 1))
    expected = n_seeds * round(0.15 * LOG.nnz) * curve / curve.sum() / ranked.shape[1]
    # Rounding adds less than 1/4 to the variance of an item and draw.
    error = np.abs(held[ranked] - expected[:, None]) / np.sqrt(n_seeds / 4)
    assert error.max() < 5
    # The means of the groups are exact but for the rounding of a whole group.
    assert held[ranked].mean(1) == pytest.approx(expected, abs=n_seeds / ranked.shape[1])


def test_each_interaction_of_an_item_is_held_out_equally_often():
    split = PopularityShift(gamma=1.0, fraction=0.3, n_groups=4)
    draws = 300
    times = np.zeros(LOG.nnz)
    for seed in range(draws):
        times += split.take(LOG, np.random.default_rng(seed))
    p_values = [
        chisquare(times[LOG.indices == item]).pvalue
        for item in np.flatnonzero(LOG.item_counts > 20)
    ]
    # Draws without replacement vary less than chisquare supposes, so small p-values are rarer.
    assert min(p_values) > 1e-4 / len(p_values)


def test_each_interaction_is_held_out_by_random_equally_often():
    draws, split = 400, Random(fraction=0.25)
    times = np.zeros(LOG.nnz)
    for seed in range(draws):
        times += split.take(LOG, np.random.default_rng(seed))
    score = (times - draws * 0.25) / np.sqrt(draws * 0.25 * 0.75)
    assert np.abs(score).max() < 5.5
    assert score.std() == pytest.approx(1, abs=0.1)


def counted_log(counts):
    """Item i has counts[i] interactions, of the first users."""
    users = np.concatenate([np.arange(n) for n in counts])
    return Interactions.from_pairs(
        users,
        np.repeat(np.arange(len(counts)), counts),
        users=Vocabulary.of(range(max(counts))),
        items=Vocabulary.of(range(len(counts))),
    )


def test_rounding_favours_no_item_and_no_group():
    # 40 interactions, an eighth: 5. With γ = 9, c (4 + 4/9) = 5: a quota of 9/8 for each of the
    # first four items, of 1/8 for each of the last; 4.5 and 0.5 for the groups.
    log, draws = counted_log([6, 6, 6, 6, 4, 4, 4, 4]), 800
    split = PopularityShift(gamma=9.0, fraction=0.125, n_groups=2)
    held = np.array(
        [
            log.select(split.take(log, np.random.default_rng(seed))).item_counts
            for seed in range(draws)
        ]
    )
    assert split.quotas(log.item_counts) == pytest.approx([9 / 8] * 4 + [1 / 8] * 4)
    assert (held.sum(1) == 5).all()
    # Each item is rounded up with probability 1/8, and one group or the other with 1/2.
    up = held.mean(0) - np.array([1] * 4 + [0] * 4)
    assert np.abs(up - 1 / 8).max() < 4.5 * np.sqrt(1 / 8 * 7 / 8 / draws)
    assert abs(held[:, :4].sum(1).mean() - 4.5) < 4.5 * np.sqrt(1 / 4 / draws)


def test_any_two_items_of_a_group_can_be_rounded_up_together():
    # Quotas of 0.5: running sums in a fixed order would never take two neighbours.
    log = counted_log([5] * 6)
    split = PopularityShift(gamma=1.0, fraction=0.1)
    together = np.zeros((6, 6))
    for seed in range(300):
        held = log.select(split.take(log, np.random.default_rng(seed))).item_counts
        assert held.sum() == 3
        together += np.outer(held, held)
    assert together.min() > 0


def test_seeds_differ_and_repeat():
    split = PopularityShift(gamma=2.0, fraction=0.2)
    first, again, other = (split.take(LOG, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_flatter_test_is_further_from_train(data_dir):
    from contrarec.data.dataset import Dataset

    log = Dataset.load(data_dir("yahoo-r3")).train
    kinds = {f"g{g}": PopularityShift(gamma=g, fraction=0.1) for g in (200, 10, 2, 1)}
    far = {}
    for name, split in kinds.items():
        parts = Dataset.from_parts(train=log).split(tests={name: split}).describe()["parts"]
        far[name] = parts[name]["popularity_kl"]
    assert far["g200"] < far["g10"] < far["g2"] < far["g1"]
