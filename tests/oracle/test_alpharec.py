"""AlphaRec against the dense formula in float64: vectors, gradients, users folded in."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from contrarec.backbones import build_backbone
from contrarec.config import BackboneConfig
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary

N_USERS, N_ITEMS, WIDTH, DIM = 5, 8, 6, 3


@pytest.fixture
def pairs():
    """A 0/1 matrix in which user 4 has nothing, and nobody has item 2, 6 or 7."""
    pairs = (np.random.default_rng(0).random((N_USERS, N_ITEMS)) < 0.5).astype(float)
    pairs[4], pairs[:, [2, 6, 7]], pairs[0, 0], pairs[1, 0] = 0, 0, 1, 1
    return pairs


def interactions(pairs):
    users, items = np.nonzero(pairs)
    return Interactions.from_pairs(
        users, items, users=Vocabulary.of(range(len(pairs))), items=Vocabulary.of(range(N_ITEMS))
    )


def model(pairs, **settings):
    config = BackboneConfig(name="alpharec", features="x.npy", dim=DIM, **settings)
    features = np.random.default_rng(1).standard_normal((N_ITEMS, WIDTH)).astype(np.float32)
    generator = torch.Generator().manual_seed(2)
    return build_backbone(config, interactions(pairs), generator, features), features


def dense(backbone, features, pairs, n_layers, ego_weight):
    """The formula with every matrix written out; the weights are leaves, returned as well."""
    weights = [p.detach().double().requires_grad_() for p in backbone.parameters()]
    z, r = torch.from_numpy(features).double(), torch.from_numpy(pairs)
    if len(weights) == 1:
        items = z @ weights[0].T
    else:
        w1, b1, w2, b2 = weights
        hidden = z @ w1.T + b1
        items = torch.where(hidden > 0, hidden, 0.01 * hidden) @ w2.T + b2
    users = torch.stack(
        [items[row > 0].mean(0) if row.any() else torch.zeros(DIM).double() for row in r]
    )
    layers, adjacency = [torch.cat([users, items])], torch.zeros(13, 13, dtype=torch.float64)
    for u in range(N_USERS):
        for i in range(N_ITEMS):
            if pairs[u, i]:
                weight = 1 / np.sqrt(pairs[u].sum() * pairs[:, i].sum())
                adjacency[u, N_USERS + i] = adjacency[N_USERS + i, u] = weight
    for _ in range(n_layers):
        layers.append(adjacency @ layers[-1])
    out = sum(layers) / len(layers)
    if ego_weight is not None and n_layers:
        out = ego_weight * layers[0] + (1 - ego_weight) * sum(layers[1:]) / n_layers
    out_users, out_items = out[:N_USERS], out[N_USERS:].clone()
    for item in np.flatnonzero(~pairs.any(0)):
        out_items[item] = items[item]
    return out_users, out_items, weights


@pytest.mark.parametrize("kind", ["linear", "mlp"])
@pytest.mark.parametrize(("n_layers", "ego"), [(0, None), (1, None), (3, None), (2, 0.3), (2, 0.0)])
def test_vectors_and_gradients(pairs, kind, n_layers, ego):
    backbone, features = model(pairs, map=kind, n_layers=n_layers, ego_weight=ego)
    found = backbone()
    *expected, weights = dense(backbone, features, pairs, n_layers, ego)
    pull = [torch.randn(v.shape, generator=torch.Generator().manual_seed(3)) for v in found]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-6)
    sum((v * p).sum() for v, p in zip(found, pull, strict=True)).backward()
    value = sum((v * p.double()).sum() for v, p in zip(expected, pull, strict=True))
    for parameter, grad in zip(
        backbone.parameters(), torch.autograd.grad(value, weights), strict=True
    ):
        torch.testing.assert_close(parameter.grad.double(), grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("n_layers", "ego"), [(0, None), (1, None), (3, None), (2, 0.3), (2, 0.0)])
def test_a_user_folded_in_is_a_trained_user_with_the_same_history(pairs, n_layers, ego):
    backbone, _ = model(pairs, n_layers=n_layers, ego_weight=ego)
    users = backbone()[0].detach()
    torch.testing.assert_close(backbone.fold_in(interactions(pairs[::-1])), users.flip(0))
    new = np.zeros((1, N_ITEMS))
    new[0, [2, 7]] = 1  # of items without anyone: what they are is all there is
    found = backbone.fold_in(interactions(new))
    cold = backbone.item_table[[2, 7]]
    if n_layers == 0:
        torch.testing.assert_close(found, cold.mean(0, keepdim=True))
    assert found.isfinite().all()


def test_with_the_identity_it_is_a_free_table(pairs):
    config = BackboneConfig(
        name="alpharec", features="x.npy", dim=DIM, n_layers=2, map="linear", ego_weight=None
    )
    identity = np.eye(N_ITEMS, dtype=np.float32)
    backbone = build_backbone(config, interactions(pairs), None, identity)
    table = backbone.map[0].weight.detach().T
    free = build_backbone(BackboneConfig(name="lightgcn", dim=DIM), interactions(pairs))
    free.item_table.data.copy_(table)
    means = [table[row > 0].mean(0) if row.any() else torch.zeros(DIM) for row in pairs]
    free.user_table.data.copy_(torch.stack(means))
    (users, items), (other_users, other_items) = backbone(), free()
    torch.testing.assert_close(users, other_users)
    seen = pairs.any(0)
    torch.testing.assert_close(items[seen], other_items[seen])
    # one that nobody has had: a third of its layer 0 in LightGCN, the same direction
    torch.testing.assert_close(F.normalize(items[~seen]), F.normalize(other_items[~seen]))
    torch.testing.assert_close(items[~seen], 3 * other_items[~seen])
