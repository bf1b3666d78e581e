"""The compiled `sampled_scores` against its reference: values, gradients, shapes, manners."""

import pytest
import torch

from contrarec.errors import BackendError, ConfigError
from contrarec.kernels.dispatch import set_threads
from contrarec.kernels.scores import sampled_scores, sampled_scores_reference

# (relative, absolute): float32 sums of 64 products, bfloat16 rounds its result to 8 bits
TOLERANCE = {
    torch.float64: (1e-11, 1e-11),
    torch.float32: (1e-4, 1e-5),
    torch.bfloat16: (2e-2, 2e-2),
}
SHAPES = [
    (1, 1, 1, 1, 1),
    (7, 5, 1, 7, 3),
    (41, 1271, 64, 33, 41),
    (100, 9, 30, 300, 17),
    (20, 61, 12, 12, 41),  # few rows, and items with several pairs each
    (3, 4, 5, 0, 6),
]


def make(shape, dtype, seed=0):
    n_users, n_items, dim, n_rows, n_neg = shape
    g = torch.Generator().manual_seed(seed)
    U = torch.randn(n_users, dim, generator=g, dtype=torch.float64).to(dtype).requires_grad_()
    V = torch.randn(n_items, dim, generator=g, dtype=torch.float64).to(dtype).requires_grad_()
    users = torch.randint(0, n_users, (n_rows,), generator=g)
    items = torch.randint(0, n_items, (n_rows, n_neg), generator=g)
    grad = torch.randn(n_rows, n_neg, generator=g, dtype=torch.float64).to(dtype)
    return U, V, users, items, grad


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradient_agree_with_reference(shape, dtype, cosine):
    U, V, users, items, grad = make(shape, dtype)
    before = [tensor.detach().clone() for tensor in (U, V, users, items)]
    out = sampled_scores(U, V, users, items, cosine=cosine, backend="numba")
    expected = sampled_scores_reference(U, V, users, items, cosine=cosine)
    rtol, atol = TOLERANCE[dtype]
    assert out.dtype == dtype
    torch.testing.assert_close(out, expected, rtol=rtol, atol=atol)
    got = torch.autograd.grad(out, (U, V), grad)
    want = torch.autograd.grad(expected, (U, V), grad)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol * 10)
    for tensor, copy in zip((U, V, users, items), before, strict=True):
        assert torch.equal(tensor.detach(), copy)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("backend", ["reference", "numba"])
def test_row_sparse_gradients_are_the_dense_ones(backend, cosine):
    U, V, users, items, grad = make((50, 1271, 30, 33, 41), torch.float64)
    out = sampled_scores(U, V, users, items, cosine=cosine, sparse_grad=True, backend=backend)
    got = torch.autograd.grad(out, (U, V), grad)
    want = torch.autograd.grad(
        sampled_scores_reference(U, V, users, items, cosine=cosine), (U, V), grad
    )
    for a, b, index in zip(got, want, (users, items), strict=True):
        assert a.is_sparse
        torch.testing.assert_close(a.to_dense(), b)
        assert torch.equal(a.coalesce().indices()[0], index.unique())
        if backend == "numba":
            assert a.is_coalesced()


def test_hand_computed():
    U = torch.tensor([[3.0, 4.0]], requires_grad=True)
    V = torch.tensor([[1.0, 0.0], [0.0, 2.0]], requires_grad=True)
    users, items = torch.tensor([0, 0]), torch.tensor([[0, 1], [1, 1]])
    out = sampled_scores(U, V, users, items)
    assert out.tolist() == [[3.0, 8.0], [8.0, 8.0]]
    out.sum().backward()
    assert U.grad.tolist() == [[1.0, 6.0]]  # v0 + 3·v1
    assert V.grad.tolist() == [[3.0, 4.0], [9.0, 12.0]]  # u, and 3·u
    cosines = sampled_scores(U, V, users, items, cosine=True)
    torch.testing.assert_close(cosines, torch.tensor([[0.6, 0.8], [0.8, 0.8]]))


def test_gradcheck_of_cosines_in_float64():
    U, V, users, items, _ = make((4, 6, 5, 8, 3), torch.float64)

    def scores(U, V):
        return sampled_scores(U, V, users, items, cosine=True, backend="numba")

    assert torch.autograd.gradcheck(scores, (U, V))


def test_zero_rows_and_huge_rows():
    U, V, users, items, grad = make((5, 6, 8, 9, 4), torch.float64)
    with torch.no_grad():
        U[0], V[1], V[2] = 0.0, 0.0, 1e150
    out = sampled_scores(U, V, users, items, cosine=True, backend="numba")
    expected = sampled_scores_reference(U, V, users, items, cosine=True)
    torch.testing.assert_close(out, expected)
    for a, b in zip(
        torch.autograd.grad(out, (U, V), grad),
        torch.autograd.grad(expected, (U, V), grad),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_nan_passes_through():
    U, V, users, items, _ = make((3, 4, 5, 6, 2), torch.float32)
    with torch.no_grad():
        U[1, 2] = float("nan")
    out = sampled_scores(U, V, users, items, backend="numba")
    assert torch.equal(out.isnan().all(1), users == 1)


def test_non_contiguous_inputs():
    U, V, users, items, grad = make((6, 8, 10, 12, 5), torch.float32)
    wide = torch.cat([U, U], 1).detach()[:, ::2]
    out = sampled_scores(wide, V[:, :].flip(1), users, items.t().contiguous().t(), backend="numba")
    expected = sampled_scores_reference(wide, V.flip(1), users, items)
    torch.testing.assert_close(out, expected)
    (got,) = torch.autograd.grad(out, V, grad.t().contiguous().t())
    (want,) = torch.autograd.grad(expected, V, grad)
    torch.testing.assert_close(got, want)


def test_only_the_gradients_asked_for():
    U, V, users, items, grad = make((6, 8, 10, 12, 5), torch.float32)
    out = sampled_scores(U.detach(), V, users, items, backend="numba")
    (got,) = torch.autograd.grad(out, V, grad)
    (want,) = torch.autograd.grad(sampled_scores_reference(U, V, users, items), V, grad)
    torch.testing.assert_close(got, want)


def test_bit_equal_for_any_number_of_threads():
    U, V, users, items, grad = make((50, 300, 64, 400, 33), torch.float32)
    results = []
    threads = torch.get_num_threads()
    try:
        for n in (1, 2):
            set_threads(n)
            out = sampled_scores(U, V, users, items, cosine=True, backend="numba")
            results.append((out, *torch.autograd.grad(out, (U, V), grad)))
    finally:
        set_threads(threads)
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_wrong_input_is_refused():
    U, V, users, items, _ = make((3, 4, 5, 6, 2), torch.float32)
    with pytest.raises(ConfigError, match=r"`items` must lie in \[0, 4\), got values from 0 to 4"):
        sampled_scores(U, V, users, torch.tensor([[0, 4]] * 6), backend="numba")
    with pytest.raises(ConfigError, match="agree in dim"):
        sampled_scores(U, V[:, :3], users, items)
    with pytest.raises(ConfigError, match="same B"):
        sampled_scores(U, V, users[:2], items)
    with pytest.raises(ConfigError, match="did you mean 'numba'"):
        sampled_scores(U, V, users, items, backend="numbaa")
    with pytest.raises(BackendError, match="runs on the CPU"):
        sampled_scores(U.to("meta"), V.to("meta"), users, items, backend="numba")
