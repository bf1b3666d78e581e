"""LightGCN's propagation against a dense computation, and its compiled twin against torch's."""

import numpy as np
import pytest
import torch

from contrarec.errors import ConfigError
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


def dense_lightgcn(dense, U, V, n_layers, first=0):
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
    return torch.stack(layers[first:]).mean(0).split([n_users, dense.shape[1]])


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


@pytest.mark.parametrize("backend", ["numba", "reference"])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_without_layer_zero(n_layers, backend):
    dense, graph, U, V = make(13, 7, 0.3, 5, torch.float64)
    out = propagate(graph, U, V, n_layers, layer_zero=False, backend=backend)
    expected = dense_lightgcn(dense, U, V, n_layers, first=1)
    grads = [torch.randn_like(t) for t in (U, V)]
    got, want = (gradients(tables, grads, (U, V)) for tables in (out, expected))
    for a, b in zip((*out, *got), (*expected, *want), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    with pytest.raises(ConfigError, match="`n_layers` must be at least 1 without layer 0, got 0"):
        propagate(graph, U, V, 0, layer_zero=False)


def gradients(out, grads, tables):
    return torch.autograd.grad(out, tables, grads)


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_single_edge_by_hand(backend):
    # user 0 has items 0 and 2, user 2 has item 2; user 1 and item 1 have nothing
    graph = bipartite_graph(np.array([0, 2, 2, 3]), np.array([0, 2, 2], np.int32), 3)
    U = torch.tensor([[1.0], [5.0], [2.0]])
    V = torch.tensor([[4.0], [7.0], [3.0]])
    # 1/sqrt(2·1), 1/sqrt(2·2), 1/sqrt(1·2); one layer, so each row is (E + A·E) / 2
    a, b, c = 2**-0.5, 0.5, 2**-0.5
    want_users = torch.tensor([[1 + a * 4 + b * 3], [5.0], [2 + c * 3]]) / 2
    want_items = torch.tensor([[4 + a * 1], [7.0], [3 + b * 1 + c * 2]]) / 2
    users, items = propagate(graph, U, V, 1, backend=backend)
    torch.testing.assert_close(users, want_users)
    torch.testing.assert_close(items, want_items)


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_graph_without_edges_is_divided_by_the_layers(backend):
    graph = bipartite_graph(np.zeros(4, np.int64), np.zeros(0, np.int32), 2)
    U, V = torch.randn(3, 5), torch.randn(2, 5)
    for a, b in zip(propagate(graph, U, V, 2, backend=backend), (U / 3, V / 3), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dim", [1, 3, 17, 64])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-7)])
def test_rows_of_any_length_and_width(dim, dtype, tolerance):
    # rows of 0 to 40 edges: shorter and longer than the blocks of four and the look-ahead
    rng = np.random.default_rng(3)
    lengths = np.arange(41)
    rows = [np.sort(rng.choice(50, n, replace=False)) for n in lengths]
    indptr = np.concatenate([[0], lengths.cumsum()])
    indices = np.concatenate(rows).astype(np.int32)
    graph = bipartite_graph(indptr, indices, 50)
    dense = np.zeros((41, 50), bool)
    dense[np.repeat(np.arange(41), lengths), indices] = True
    U, V = torch.randn(41, dim, dtype=dtype), torch.randn(50, dim, dtype=dtype)
    got = propagate(graph, U, V, 2, backend="numba")
    want = dense_lightgcn(dense, U.double(), V.double(), 2)
    for a, b in zip(got, want, strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=tolerance)


def test_tables_beyond_the_caches():
    rng = np.random.default_rng(5)
    n_users, n_items, dim = 5_000, 36_000, 64  # the items take 9 MB: their rows are asked for ahead
    pairs = np.unique(rng.integers(0, n_users * n_items, 30_000))
    indptr = np.searchsorted(pairs, np.arange(n_users + 1) * n_items)
    graph = bipartite_graph(indptr, (pairs % n_items).astype(np.int32), n_items)
    U, V = torch.randn(n_users, dim), torch.randn(n_items, dim)
    got, want = (propagate(graph, U, V, 3, backend=name) for name in ("numba", "reference"))
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_tables_and_gradients_may_be_views():
    _, graph, U, V = make(13, 7, 0.3, 6, torch.float64)
    u, v = U.detach().T.contiguous().T, V.detach().repeat_interleave(2, 0)[::2]
    assert not u.is_contiguous()
    assert not v.is_contiguous()
    for a, b in zip(propagate(graph, u, v, 2), propagate(graph, U, V, 2), strict=True):
        assert torch.equal(a, b)
    grads = [torch.randn(6, n, dtype=torch.float64).T for n in (13, 7)]
    got = gradients(propagate(graph, U, V, 2), grads, (U, V))
    want = gradients(propagate(graph, U, V, 2), [g.contiguous() for g in grads], (U, V))
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_bit_equal_for_any_number_of_threads():
    _, graph, U, V = make(200, 90, 0.1, 64, torch.float32)
    grads = [torch.randn_like(t) for t in (U, V)]
    results, threads = [], torch.get_num_threads()
    try:
        for n in (1, 2):
            set_threads(n)
            out = propagate(graph, U, V, 2)
            results.append([*out, *gradients(out, grads, (U, V))])
    finally:
        set_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_inputs_are_left_alone():
    _, graph, U, V = make(9, 8, 0.4, 6, torch.float32)
    grads = [torch.randn_like(t) for t in (U, V)]
    inputs = (*graph, U, V, *grads)
    before = [t.detach().clone() for t in inputs]
    gradients(propagate(graph, U, V, 2), grads, (U, V))
    assert all(torch.equal(a, b.detach()) for a, b in zip(before, inputs, strict=True))
