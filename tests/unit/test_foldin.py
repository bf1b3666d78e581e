"""Vectors of users never seen."""

import pytest
import torch
import torch.nn.functional as F

from contrarec import Dataset, Recommender
from contrarec.evaluation.protocol import evaluate
from contrarec.foldin import fold_in_vectors


def test_first_step_by_hand():
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 2.0]])
    found = fold_in_vectors(
        vectors, torch.tensor([0, 2, 2]), torch.tensor([0, 1]), cosine=False
    )  # mean of the history (½, ½) minus the mean of all (0, 1); an empty history
    assert found.tolist() == [[0.5, -0.5], [0.0, 0.0]]


def test_ends_near_the_minimum_of_the_loss():
    g = torch.Generator().manual_seed(0)
    vectors = F.normalize(torch.randn(50, 8, generator=g))
    indptr, items, tau = torch.tensor([0, 3, 7]), torch.tensor([1, 2, 3, 10, 20, 30, 40]), 0.3

    def losses(users):
        logits = F.normalize(users) @ vectors.T / tau
        nll = logits.logsumexp(1) - torch.stack(
            [logits[0, items[:3]].mean(), logits[1, items[3:]].mean()]
        )
        return nll.detach(), nll.sum()

    best = torch.randn(2, 8, generator=g).requires_grad_()
    optimizer = torch.optim.Adam([best], lr=0.05)
    for _ in range(500):
        optimizer.zero_grad()
        losses(best)[1].backward()
        optimizer.step()
    first, settled = (
        losses(fold_in_vectors(vectors, indptr, items, cosine=True, tau=t))[0] for t in (None, tau)
    )
    minimum = losses(best)[0]
    assert (settled - minimum < 0.1 * (first - minimum)).all()


def test_blocks_change_nothing(monkeypatch):
    g = torch.Generator().manual_seed(1)
    vectors = torch.randn(30, 6, generator=g)
    indptr, items = torch.arange(0, 21, 2), torch.randint(0, 30, (20,), generator=g)
    whole = fold_in_vectors(vectors, indptr, items, cosine=True, tau=0.2)
    monkeypatch.setattr("contrarec.foldin._BLOCK_BYTES", 30 * 4 * 3)
    parts = fold_in_vectors(vectors, indptr, items, cosine=True, tau=0.2)
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
def test_users_folded_in_are_served_nearly_as_well_as_trained_ones(data_dir, backbone):
    data = Dataset.load(data_dir("coat"))
    rec = Recommender(backbone, "infonce", preset="coat", seed=1, device="cpu").fit(data)
    model = rec._trained()
    scorer = model.fold_in_scorer(data.train)
    folded = evaluate(scorer, data.tests["ood"]).metrics()["recall@20"]
    assert folded > 0.9 * rec.result["metrics"]["ood"]["recall@20"]
