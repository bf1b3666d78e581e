"""LightGCN's propagation against a dense computation, and its compiled twin against torch's."""

import numpy as np
import pytest
import torch

from contrarec.kernels.dispatch import set_threads
from contrarec.kernels.propagate import bipartite_graph, propagate


def make(n_users, n_items, density, dim, dtype, seed=0):
    rng = np.random.default_rng(seed)
    dense = rng.random((n_users, n_items)) < density
    indptr = np.concatenate([[0], dense.sum(1).cumsum()]).astype(np.int64)
    indices = dense.nonzero()[1].astype(np.int32)
    U = torch.from_numpy(rng.standard_normal((n_users, dim))).to(dtype).requires_grad_()
    V = torch.from_numpy(rng.standard_normal((n_items, dim))).to(dtype).requires_grad_()
    return dense, bipartite_graph(indptr, indices, n_items), U, V


def dense_lightgcn(dense, U, V, n_layers):
    n_users = len(dense)
    A = np.zeros((sum(dense.shape), sum(dense.shape)))
    A[:n_users, n_users:] = dense
    A = A + A.T
    degree = A.sum(1)
    scale = np.array([1 / np.sqrt(d) if d else 0.0 for d in degree])
    A = torch.from_numpy(scale[:, None] * A * scale[None, :])
    layer = torch.cat([U, V])
    layers = [layer]
    for _ in range(n_layers):
        layer = A @ layer
        layers.append(layer)
    return torch.stack(layers).mean(0).split([n_users, dense.shape[1]])


@pytest.mark.parametrize("backend", ["numba", "reference"])
@pytest.mark.parametrize("n_layers", [0, 1, 2, 3])
@pytest.mark.parametrize("shape", [(13, 7, 0.3, 5), (1, 1, 1.1, 1), (6, 40, 0.05, 64)])
def test_value_and_gradient_agree_with_dense(shape, n_layers, backend):
    dense, graph, U, V = make(*shape, torch.float64)
    out = propagate(graph, U, V, n_layers, backend=backend)
    expected = dense_lightgcn(dense, U, V, n_layers)
    weights = [torch.randn_like(t) for t in (U, V)]
    got = torch.autograd.grad(sum((o * w).sum() for o, w in zip(out, weights, strict=True)), (U, V))
    want = torch.autograd.grad(
        sum((o * w).sum() for o, w in zip(expected, weights, strict=True)), (U, V)
    )
    for a, b in zip((*out, *got), (*expected, *want), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)  # weights are kept in float32


def test_bit_equal_for_any_number_of_threads():
    _, graph, U, V = make(200, 90, 0.1, 64, torch.float32)
    results, threads = [], torch.get_num_threads()
    try:
        for n in (1, 2):
            set_threads(n)
            results.append(propagate(graph, U, V, 2, backend="numba"))
    finally:
        set_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_inputs_are_left_alone():
    _, graph, U, V = make(9, 8, 0.4, 6, torch.float32)
    before = [t.detach().clone() for t in (*graph, U, V)]
    propagate(graph, U, V, 2)
    assert all(torch.equal(a, b.detach()) for a, b in zip(before, (*graph, U, V), strict=True))
