"""The way from scores to metrics against torchmetrics, an independent library.

torchmetrics sees the raw scores of the items that may be ranked, one user at a time, and knows
nothing of our top-k. Its average precision divides by the number of hits within k, where ours
divides by min(|T|, k): its value is multiplied by hits and divided by min(|T|, k) before it is
compared, and MAP is checked a second time against its definition in exact fractions.
"""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torchmetrics.functional.retrieval import (
    retrieval_average_precision,
    retrieval_hit_rate,
    retrieval_normalized_dcg,
    retrieval_precision,
    retrieval_recall,
    retrieval_reciprocal_rank,
)

from contrarec.evaluation.metrics import METRICS
from contrarec.evaluation.ranking import top_k
from contrarec.kernels.topk import in_rows

N_USERS, N_ITEMS = 60, 90
KS = (1, 5, 20, 60)


class Rows:
    """The least that is CSR."""

    def __init__(self, rows):
        self.indptr = np.cumsum([0, *map(len, rows)])
        self.indices = np.concatenate(rows).astype(np.int32)


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(5)
    # Distinct and positive: torchmetrics breaks ties its own way and drops scores ≤ 0.
    scores = 1 + rng.permuted(np.tile(np.arange(N_ITEMS), (N_USERS, 1)), axis=1)
    truth, mask = [], []
    for user in range(N_USERS):
        shuffled = rng.permutation(N_ITEMS)
        n_truth = 1 + user % 45  # more positives than k, too
        truth.append(np.sort(shuffled[:n_truth]))
        mask.append(np.sort(shuffled[n_truth : n_truth + user % 7]))
    return torch.tensor(scores, dtype=torch.float32), truth, mask


@pytest.fixture(scope="module")
def ours(world):
    scores, truth, mask = world
    users = np.arange(N_USERS)
    items, _ = top_k(
        lambda block: scores[block], users, max(KS), n_items=N_ITEMS, mask=Rows(mask), block_size=7
    )
    rows = Rows(truth)
    return in_rows(items, users, (rows.indptr, rows.indices)), np.array([len(t) for t in truth])


def rescaled_average_precision(preds, target, top_k):
    order = preds.argsort(descending=True)[:top_k]
    share = float(target[order].sum()) / min(int(target.sum()), top_k)
    return retrieval_average_precision(preds, target, top_k=top_k) * share


INDEPENDENT = {
    "recall": retrieval_recall,
    "precision": retrieval_precision,
    "ndcg": retrieval_normalized_dcg,
    "hit": retrieval_hit_rate,
    "mrr": retrieval_reciprocal_rank,
    "map": rescaled_average_precision,
}


@pytest.mark.parametrize("kind", METRICS)
@pytest.mark.parametrize("k", KS)
def test_against_torchmetrics(world, ours, kind, k):
    scores, truth, mask = world
    expected = []
    for user in range(N_USERS):
        target = torch.zeros(N_ITEMS, dtype=torch.bool)
        target[truth[user]] = True
        allowed = torch.ones(N_ITEMS, dtype=torch.bool)
        allowed[mask[user]] = False
        value = INDEPENDENT[kind](scores[user, allowed], target[allowed], top_k=k)
        expected.append(float(value))
    np.testing.assert_allclose(METRICS[kind](*ours, k), expected, rtol=1e-5)  # theirs is float32


@pytest.mark.parametrize("k", KS)
def test_map_in_exact_fractions(world, ours, k):
    scores, truth, mask = world
    for user in range(N_USERS):
        hidden = set(mask[user].tolist())
        ranked = sorted(set(range(N_ITEMS)) - hidden, key=lambda j: -scores[user, j])[:k]
        positives, total = set(truth[user].tolist()), Fraction(0)
        for rank, item in enumerate(ranked, start=1):
            if item in positives:
                total += Fraction(len(positives & set(ranked[:rank])), rank)
        value = METRICS["map"](ours[0][[user]], ours[1][[user]], k)[0]
        assert value == pytest.approx(float(total / min(len(positives), k)), rel=1e-13)
