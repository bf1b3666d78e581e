"""Scores of vectors stored in bfloat16, on every back end, against naive loops in float64."""

import numpy as np
import pytest
import torch

from contrarec.errors import ConfigError
from contrarec.kernels.scores import sampled_scores

BF16 = torch.bfloat16
SHAPES = [  # users, items, dim, rows, items a row
    (1, 1, 1, 1, 1),
    (7, 5, 1, 7, 3),
    (3, 6, 30, 5, 9),
    (2, 3, 64, 2, 41),
    (3, 4, 5, 0, 6),
]


@pytest.fixture(params=["reference", "numba", "triton"])
def backend(request):
    if request.param == "triton":
        request.getfixturevalue("gpu")
    return request.param


@pytest.fixture
def device(backend, request):
    return request.getfixturevalue("gpu") if backend == "triton" else torch.device("cpu")


def make(shape, device, seed=0):
    n_users, n_items, dim, n_rows, n_neg = shape
    g = torch.Generator().manual_seed(seed)
    U = torch.randn(n_users, dim, generator=g).to(device).requires_grad_()
    V = torch.randn(n_items, dim, generator=g).to(device).requires_grad_()
    users = torch.randint(0, n_users, (n_rows,), generator=g).to(device)
    items = torch.randint(0, n_items, (n_rows, n_neg), generator=g).to(device)
    return U, V, users, items, torch.randn(n_rows, n_neg, generator=g).to(device)


def array(tensor):
    return tensor.detach().cpu().numpy().astype(np.float64 if tensor.is_floating_point() else int)


def rounded(x):
    """To 8 significant bits, ties to even."""
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.rint(mantissa * 256) / 256, exponent)


def naive(U, V, users, items, grad, cosine):
    """Scores and both gradients, pair by pair."""
    out, grad_u, grad_v = np.zeros(items.shape), np.zeros(U.shape), np.zeros(V.shape)
    for b in range(items.shape[0]):
        for n in range(items.shape[1]):
            u, v, w = U[users[b]], V[items[b, n]], grad[b, n]
            by_u, by_v, score = v, u, u @ v
            if cosine:
                uu, vv = u @ u, v @ v
                score /= np.sqrt(uu * vv)
                by_u = v / np.sqrt(uu * vv) - score * u / uu
                by_v = u / np.sqrt(uu * vv) - score * v / vv
            out[b, n] = score
            grad_u[users[b]] += w * by_u
            grad_v[items[b, n]] += w * by_v
    return out, grad_u, grad_v


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradient_at_the_rounded_vectors(shape, cosine, backend, device):
    tensors = make(shape, device)
    U, V, users, items, grad = tensors
    before = [tensor.detach().clone() for tensor in tensors]
    out = sampled_scores(U, V, users, items, cosine=cosine, storage=BF16, backend=backend)
    found = (out, *torch.autograd.grad(out, (U, V), grad))
    u, v, *rest = map(array, tensors)
    for got, want in zip(found, naive(rounded(u), rounded(v), *rest, cosine), strict=True):
        assert got.dtype == torch.float32  # a sum kept in bfloat16 would be off by 4e-3
        np.testing.assert_allclose(array(got), want, rtol=1e-4, atol=1e-4)
    for tensor, copy in zip(tensors, before, strict=True):
        assert torch.equal(tensor.detach(), copy)


def test_error_of_the_rounding_is_bounded(backend, device):
    tensors = make((3, 6, 30, 5, 9), device)
    U, V, users, items, grad = tensors
    out = sampled_scores(U, V, users, items, storage=BF16, backend=backend)
    found = (out, *torch.autograd.grad(out, (U, V), grad))
    exact = naive(*map(array, tensors), False)
    sizes = naive(*(abs(array(tensor)) for tensor in tensors), False)  # of the terms of each sum
    # a stored number is off by up to 2^-8 of itself: two of them in a score, one in a gradient
    for got, want, size, share in zip(found, exact, sizes, (2**-7, 2**-8, 2**-8), strict=True):
        assert (abs(array(got) - want) <= 1.01 * share * size).all()


def test_hand_computed(backend, device):
    # 257/256 and 259/256 lie between two neighbours of 8 bits: 256 and 260 have the even last bit
    U = torch.tensor([[257 / 256, 259 / 256]], device=device, requires_grad=True)
    V = torch.tensor([[1.0, 0.0], [0.0, 1 + 2**-12]], device=device, requires_grad=True)
    users, items = torch.tensor([0], device=device), torch.tensor([[0, 1]], device=device)
    out = sampled_scores(U, V, users, items, storage=BF16, backend=backend)
    assert out.tolist() == [[1.0, 260 / 256]]
    out.backward(torch.tensor([[1.0, 1 + 2**-12]], device=device))
    assert U.grad.tolist() == [[1.0, 1 + 2**-12]]  # a float32: the gradient is not rounded
    assert V.grad.tolist() == [[1.0, 260 / 256], [1 + 2**-12, 260 / 256 * (1 + 2**-12)]]


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("backend", ["reference", "numba"])
def test_row_sparse_gradients_are_the_dense_ones(backend, cosine):
    U, V, users, items, grad = make((50, 1271, 30, 33, 41), torch.device("cpu"))
    got, want = (
        torch.autograd.grad(
            sampled_scores(
                U, V, users, items,
                cosine=cosine, sparse_grad=sparse, storage=BF16, backend=backend,
            ),
            (U, V),
            grad,
        )
        for sparse in (True, False)
    )  # fmt: skip
    for a, b, index in zip(got, want, (users, items), strict=True):
        assert a.is_sparse
        assert torch.equal(a.coalesce().indices()[0], index.unique())
        torch.testing.assert_close(a.to_dense(), b)
        if backend == "numba":
            assert a.is_coalesced()


def test_without_gradients_and_with_one_of_them(backend, device):
    U, V, users, items, grad = make((3, 6, 30, 5, 9), device)
    options = {"storage": BF16, "backend": backend}
    out = sampled_scores(U, V, users, items, **options)
    want = torch.autograd.grad(out, (U, V), grad)
    with torch.no_grad():
        assert torch.equal(sampled_scores(U, V, users, items, **options), out)
    for k, tables in enumerate([(U, V.detach()), (U.detach(), V)]):
        (got,) = torch.autograd.grad(
            sampled_scores(*tables, users, items, **options), tables[k], grad
        )
        assert torch.equal(got, want[k])


def test_non_contiguous_tables(backend, device):
    U, V, users, items, grad = make((4, 6, 10, 5, 9), device)
    wide = torch.cat([U, U], 1).detach()[:, ::2].requires_grad_()
    flat = wide.detach().contiguous().requires_grad_()
    got, want = (
        torch.autograd.grad(
            sampled_scores(first, V, users, items, storage=BF16, backend=backend), (first, V), grad
        )
        for first in (wide, flat)
    )
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


def test_nan_passes_through(backend, device):
    U, V, users, items, _ = make((3, 4, 5, 6, 2), device)
    with torch.no_grad():
        U[1, 2] = float("nan")
    out = sampled_scores(U, V, users, items, storage=BF16, backend=backend)
    assert torch.equal(out.isnan().all(1), users == 1)


def test_on_a_gpu_the_narrow_copies_are_what_is_kept(gpu):
    U, V, users, items, _ = make((3, 6, 30, 5, 9), gpu)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        sampled_scores(U, V, users, items, storage=BF16, backend="triton")
    assert [t.dtype for t in kept if t.is_floating_point()] == [BF16, BF16]


@pytest.mark.parametrize(
    ("storage", "tables", "got"),
    [
        (torch.float16, torch.float32, r"torch\.float16 with torch\.float32"),
        (BF16, torch.float64, r"torch\.bfloat16 with torch\.float64"),
        (BF16, BF16, r"torch\.bfloat16 with torch\.bfloat16"),
    ],
)
def test_what_does_not_fit_is_refused(storage, tables, got):
    U, V, users, items, _ = make((3, 4, 5, 6, 2), torch.device("cpu"))
    with pytest.raises(ConfigError, match=f"^`storage` must be None, or .* got {got}"):
        sampled_scores(U.to(tables), V.to(tables), users, items, storage=storage)
