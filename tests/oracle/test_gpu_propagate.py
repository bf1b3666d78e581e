"""The Triton propagation against torch's sparse product, value and gradient."""

import numpy as np
import pytest
import torch

from contrarec.kernels.propagate import bipartite_graph, propagate, propagate_reference

TOLERANCE = {  # the weights are kept in float32
    torch.float64: (1e-6, 1e-6),
    torch.float32: (1e-5, 1e-5),
}


def make(n_users, n_items, density, dim, device, dtype=torch.float32, seed=0):
    rng = np.random.default_rng(seed)
    dense = rng.random((n_users, n_items)) < density
    dense[:, 0] = True  # an item that all users have
    indptr = np.concatenate([[0], dense.sum(1).cumsum()]).astype(np.int64)
    graph = bipartite_graph(indptr, dense.nonzero()[1].astype(np.int32), n_items).to(device)
    U, V, grad_u, grad_v = (
        torch.from_numpy(rng.standard_normal((n, dim))).to(device, dtype)
        for n in (n_users, n_items, n_users, n_items)
    )
    return graph, U.requires_grad_(), V.requires_grad_(), (grad_u, grad_v)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("layer_zero", [True, False])
@pytest.mark.parametrize(
    ("shape", "n_layers"), [((1, 1, 1.0, 1), 1), ((9, 4, 0.3, 5), 3), ((11, 2, 0.2, 64), 1)]
)
def test_value_and_gradient_agree_with_reference(
    shape, n_layers, layer_zero, dtype, gpu, monkeypatch
):
    from contrarec.kernels.gpu import rows

    monkeypatch.setattr(rows, "_SPLIT", 8)  # so that popular items take two passes
    graph, U, V, grads = make(*shape, gpu, dtype)
    before = [tensor.detach().clone() for tensor in (*graph, U, V, *grads)]
    out = propagate(graph, U, V, n_layers, layer_zero=layer_zero, backend="triton")
    expected = propagate_reference(graph, U, V, n_layers, layer_zero=layer_zero)
    got, want = (torch.autograd.grad(tables, (U, V), grads) for tables in (out, expected))
    rtol, atol = TOLERANCE[dtype]
    for a, b in zip((*out, *got), (*expected, *want), strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)
    for tensor, copy in zip((*graph, U, V, *grads), before, strict=True):
        assert torch.equal(tensor.detach(), copy)


def test_bfloat16_is_stored_and_float32_summed(gpu):
    graph, U, V, _ = make(9, 4, 0.6, 6, gpu)
    low = [table.detach().bfloat16() for table in (U, V)]
    out = propagate(graph, *low, 1, backend="triton")
    expected = propagate_reference(graph, *(table.float() for table in low), 1)
    for a, b in zip(out, expected, strict=True):
        assert a.dtype == torch.bfloat16
        # one layer is rounded once, at the end (by the interpreter towards zero)
        torch.testing.assert_close(a.float(), b, rtol=2**-7, atol=0)


def test_non_contiguous_tables_and_gradients_of_sums(gpu):
    graph, U, V, _ = make(5, 4, 0.5, 6, gpu)
    results = []
    for run in (lambda *a: propagate(*a, backend="triton"), propagate_reference):
        out = run(graph, U.flip(0).t().contiguous().t(), V, 2)
        results.append((*out, *torch.autograd.grad(out[0].sum() + out[1].sum(), (U, V))))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_without_interactions_only_the_mean_is_left(gpu):
    graph = bipartite_graph(np.zeros(4, np.int64), np.empty(0, np.int32), 2).to(gpu)
    out = propagate(graph, torch.ones(3, 5).to(gpu), torch.ones(2, 5).to(gpu), 3, backend="triton")
    assert [table.tolist() for table in out] == [[[0.25] * 5] * 3, [[0.25] * 5] * 2]
