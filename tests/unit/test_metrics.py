"""Metrics on lists worked out by hand."""

import re

import numpy as np
import pytest

from contrarec.errors import ConfigError, DataError
from contrarec.evaluation.metrics import DEFINITIONS, METRICS, parse_metric

# Four users, five ranks. |T| counts positives that the list does not show, too.
HITS = np.array(
    [
        [1, 0, 1, 0, 0],  # two of three positives, at ranks 1 and 3
        [0, 0, 0, 0, 1],  # one of eight, at rank 5
        [0, 0, 0, 0, 0],  # nothing
        [1, 1, 1, 1, 1],  # five of seven: the best possible list of five
    ],
    dtype=bool,
)
N_TRUTH = np.array([3, 8, 1, 7])
LOG2_3, LOG2_4, LOG2_5, LOG2_6 = 1.584962500721156, 2.0, 2.321928094887362, 2.584962500721156
IDEAL_3 = 1 + 1 / LOG2_3 + 1 / LOG2_4
IDEAL_5 = IDEAL_3 + 1 / LOG2_5 + 1 / LOG2_6

BY_HAND = {
    # hits / |T|
    "recall@5": [2 / 3, 1 / 8, 0, 5 / 7],
    "recall@2": [1 / 3, 0, 0, 2 / 7],
    # hits / k
    "precision@5": [2 / 5, 1 / 5, 0, 1],
    "precision@2": [1 / 2, 0, 0, 1],
    # any hit
    "hit@5": [1, 1, 0, 1],
    "hit@2": [1, 0, 0, 1],
    # 1 / rank of the first hit
    "mrr@5": [1, 1 / 5, 0, 1],
    "mrr@2": [1, 0, 0, 1],
    # DCG: ranks 1 and 3 give 1/log2(2) + 1/log2(4); the ideal has min(|T|, k) hits
    "ndcg@5": [(1 + 1 / LOG2_4) / IDEAL_3, (1 / LOG2_6) / IDEAL_5, 0, 1],
    "ndcg@2": [1 / (1 + 1 / LOG2_3), 0, 0, 1],
    # precision at the ranks of the hits, 1/1 and 2/3, over min(|T|, k)
    "map@5": [(1 / 1 + 2 / 3) / 3, (1 / 5) / 5, 0, (1 + 1 + 1 + 1 + 1) / 5],
    "map@2": [(1 / 1) / 2, 0, 0, (1 + 1) / 2],
}


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("dtype", [bool, np.float32, np.int64])
def test_by_hand(name, dtype):
    kind, k = parse_metric(name)
    values = METRICS[kind](HITS.astype(dtype), N_TRUTH, k)
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, BY_HAND[name], rtol=1e-14)


def test_every_metric_is_worked_out_and_defined():
    assert {parse_metric(name)[0] for name in BY_HAND} == set(METRICS) == set(DEFINITIONS)


def test_more_positives_than_places():
    # One place, four positives: a hit is all that one can have, except for recall.
    values = {kind: float(metric([[True]], [4], 1)[0]) for kind, metric in METRICS.items()}
    assert values == {"recall": 0.25, "ndcg": 1, "hit": 1, "precision": 1, "mrr": 1, "map": 1}


@pytest.mark.parametrize("kind", METRICS)
def test_inputs_stay_as_they_are_and_no_user_is_no_value(kind):
    hits, n_truth = HITS.astype(float), N_TRUTH.copy()
    METRICS[kind](hits, n_truth, 3)
    np.testing.assert_array_equal(hits, HITS)
    np.testing.assert_array_equal(n_truth, N_TRUTH)
    assert METRICS[kind](np.empty((0, 5)), np.empty(0, int), 3).shape == (0,)


@pytest.mark.parametrize("kind", METRICS)
def test_refusals(kind):
    metric = METRICS[kind]
    for k in (0, 6):
        with pytest.raises(ConfigError, match=f"between 1 and the 5 ranks given, got {k}"):
            metric(HITS, N_TRUTH, k)
    with pytest.raises(DataError, match=re.escape("got (4, 5) and (3,)")):
        metric(HITS, N_TRUTH[:3], 5)
    with pytest.raises(DataError, match="at least 1 for every user, got 0"):
        metric(HITS, [3, 0, 1, 7], 5)


def test_names():
    assert parse_metric("map@1") == ("map", 1)
    with pytest.raises(ConfigError, match=r"unknown metric 'ndgc' \(did you mean 'ndcg'\?\)"):
        parse_metric("ndgc@20")
    for name in ("recall", "recall@", "recall@0", "recall@-5", "recall@2.5", "recall@²"):
        with pytest.raises(ConfigError, match=rf"named like 'recall@20', got '{name}'"):
            parse_metric(name)
