"""A LightGCN over a small graph, for the tests of the losses that contrast its views."""

import numpy as np
import torch

from contrarec.backbones import build_backbone
from contrarec.config import BackboneConfig
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary


def encoder(indptr, indices, n_items, *, dim, seed=0, name="lightgcn", **settings):
    """Build a graph backbone with float64 tables; the graph's weights stay float32."""
    train = Interactions(
        indptr=np.asarray(indptr, np.int64),
        indices=np.asarray(indices, np.int32),
        users=Vocabulary.of(range(len(indptr) - 1)),
        items=Vocabulary.of(range(n_items)),
    )
    config = BackboneConfig(name=name, dim=dim, **settings)
    backbone = build_backbone(config, train, torch.Generator().manual_seed(seed))
    for table in (backbone.user_table, backbone.item_table):
        table.data = table.data.double()
    return backbone


def adjacency(pairs):
    """Return the normalised adjacency of a 0/1 matrix, users and then items, dense in float64."""
    n_users, n_items = pairs.shape
    full = torch.zeros(n_users + n_items, n_users + n_items, dtype=torch.float64)
    full[:n_users, n_users:] = pairs
    full[n_users:, :n_users] = pairs.T
    degree = full.sum(1).clamp(min=1)
    return full / (degree[:, None] * degree[None, :]).sqrt()


def pairs_of(graph, n_items):
    """Return which pairs a graph has, as a 0/1 matrix; both halves must say the same."""
    users = torch.arange(len(graph.user_indptr) - 1).repeat_interleave(graph.user_indptr.diff())
    items = torch.arange(n_items).repeat_interleave(graph.item_indptr.diff())
    found = torch.zeros(len(graph.user_indptr) - 1, n_items, dtype=torch.float64)
    found[users, graph.user_items.long()] = 1
    other = torch.zeros_like(found)
    other[graph.item_users.long(), items] = 1
    assert torch.equal(found, other)
    assert found.sum() == len(graph.user_items) == len(graph.item_users)
    return found
