"""The Triton `sampled_scores`, and the sums of table rows below it, against plain references.

Without a GPU they run in Triton's interpreter, where every program costs milliseconds: tables are
small, and long rows are cut at 8 entries instead of 128.
"""

import numpy as np
import pytest
import torch

from contrarec.kernels.scores import sampled_scores, sampled_scores_reference

# (relative, absolute): float32 sums of 64 products, bfloat16 rounds its result to 8 bits
TOLERANCE = {
    torch.float64: (1e-11, 1e-11),
    torch.float32: (1e-4, 1e-5),
    torch.bfloat16: (2e-2, 2e-2),
}
SHAPES = [  # users, items, dim, rows, items a row
    (1, 1, 1, 1, 1),
    (7, 5, 1, 7, 3),
    (3, 6, 30, 5, 9),
    (2, 3, 64, 2, 41),
    (3, 4, 5, 0, 6),
    (3, 4, 5, 6, 0),
]


@pytest.fixture(autouse=True)
def _short_windows(gpu, monkeypatch):  # noqa: ARG001 - skips where there is no triton
    from contrarec.kernels.gpu import rows

    monkeypatch.setattr(rows, "_SPLIT", 8)


def make(shape, dtype, device, seed=0):
    n_users, n_items, dim, n_rows, n_neg = shape
    g = torch.Generator().manual_seed(seed)
    U = torch.randn(n_users, dim, generator=g, dtype=torch.float64).to(device, dtype)
    V = torch.randn(n_items, dim, generator=g, dtype=torch.float64).to(device, dtype)
    users = torch.randint(0, n_users, (n_rows,), generator=g).to(device)
    items = torch.randint(0, n_items, (n_rows, n_neg), generator=g).to(device)
    grad = torch.randn(n_rows, n_neg, generator=g, dtype=torch.float64).to(device, dtype)
    return U.requires_grad_(), V.requires_grad_(), users, items, grad


def compare(U, V, users, items, grad, cosine, rtol=1e-4, atol=1e-5):
    out = sampled_scores(U, V, users, items, cosine=cosine, backend="triton")
    expected = sampled_scores_reference(U, V, users, items, cosine=cosine)
    torch.testing.assert_close(out, expected, rtol=rtol, atol=atol)
    got = torch.autograd.grad(out, (U, V), grad)
    want = torch.autograd.grad(expected, (U, V), grad)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol * 10)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradient_agree_with_reference(shape, dtype, cosine, gpu):
    arguments = make(shape, dtype, gpu)
    before = [tensor.detach().clone() for tensor in arguments]
    compare(*arguments, cosine, *TOLERANCE[dtype])
    for tensor, copy in zip(arguments, before, strict=True):
        assert torch.equal(tensor.detach(), copy)


def test_a_long_row_and_a_large_table(gpu, monkeypatch):
    from contrarec.kernels.gpu import rows

    monkeypatch.setattr(rows, "_SPLIT", 128)
    compare(*make((41, 21, 64, 1, 1271), torch.float32, gpu), True)
    U, V, users, items, grad = make((2, 3, 16, 3, 130), torch.float32, gpu)
    compare(U, V, users, items.clamp(max=1), grad, False)  # about 195 pairs for either item


def test_hand_computed(gpu):
    U = torch.tensor([[3.0, 4.0]], device=gpu, requires_grad=True)
    V = torch.tensor([[1.0, 0.0], [0.0, 2.0]], device=gpu, requires_grad=True)
    users, items = torch.tensor([0, 0], device=gpu), torch.tensor([[0, 1], [1, 1]], device=gpu)
    out = sampled_scores(U, V, users, items, backend="triton")
    assert out.tolist() == [[3.0, 8.0], [8.0, 8.0]]
    out.sum().backward()  # its gradient is one number, expanded
    assert U.grad.tolist() == [[1.0, 6.0]]  # v0 + 3·v1
    assert V.grad.tolist() == [[3.0, 4.0], [9.0, 12.0]]  # u, and 3·u


def test_zero_tiny_and_huge_rows(gpu):
    U, V, users, items, grad = make((3, 4, 8, 6, 5), torch.float64, gpu)
    with torch.no_grad():
        U[0], V[1], V[2], U[1] = 0.0, 0.0, 1e150, 1e-14
    compare(U, V, users, items, grad, True, rtol=1e-8, atol=1e-8)  # 1e-12 is a float32 there


def test_nan_passes_through(gpu):
    U, V, users, items, _ = make((3, 4, 5, 6, 2), torch.float32, gpu)
    with torch.no_grad():
        U[1, 2] = float("nan")
    for cosine in (False, True):
        out = sampled_scores(U, V, users, items, cosine=cosine, backend="triton")
        assert torch.equal(out.isnan().all(1), users == 1)


def test_a_wrong_index_makes_its_score_nan_and_leaves_the_others_alone(gpu):
    U, V, users, items, grad = make((3, 4, 5, 6, 4), torch.float32, gpu)
    right = sampled_scores(U, V, users, items, backend="triton")
    without = grad.clone()
    without[2, 1] = without[4, 0] = without[5] = 0  # the wrong ones add nothing
    want = torch.autograd.grad(right, (U, V), without)
    items[2, 1], items[4, 0], users[5] = 4, -1, 3
    out = sampled_scores(U, V, users, items, backend="triton")
    wrong = torch.zeros_like(out, dtype=torch.bool)
    wrong[2, 1] = wrong[4, 0] = wrong[5] = True
    assert torch.equal(out.isnan(), wrong)
    assert torch.equal(out[~wrong], right[~wrong])
    got = torch.autograd.grad(out, (U, V), grad)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


def test_non_contiguous_inputs(gpu):
    U, V, users, items, grad = make((4, 5, 10, 6, 5), torch.float32, gpu)
    wide = torch.cat([U, V[:4]], 1).detach()[:, ::2].requires_grad_()
    assert not wide.is_contiguous()
    twisted = items.t().contiguous().t()
    compare(wide, V.detach().flip(1).t().contiguous().t().requires_grad_(), users, twisted,
            grad.t().contiguous().t(), True)  # fmt: skip


def test_narrow_indices_and_only_the_gradients_asked_for(gpu):
    U, V, users, items, grad = make((4, 5, 10, 6, 5), torch.float32, gpu)
    want = torch.autograd.grad(sampled_scores_reference(U, V, users, items), (U, V), grad)
    users, items = users.int(), items.int()
    for k, tables in enumerate([(U, V.detach()), (U.detach(), V)]):
        out = sampled_scores(*tables, users, items, backend="triton")
        (got,) = torch.autograd.grad(out, tables[k], grad)
        torch.testing.assert_close(got, want[k])


def test_bit_equal_at_every_run(gpu):
    U, V, users, items, grad = make((2, 3, 16, 4, 6), torch.float32, gpu)
    first, second = (
        torch.autograd.grad(sampled_scores(U, V, users, items, backend="triton"), (U, V), grad)
        for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    "lengths",
    [
        [3, 0, 20, 0, 1, 9, 8, 0],  # long rows start and end within windows
        [8, 16, 24, 8],  # and on their borders
        [5, 9, 30],  # two long rows meet in a window
        [0, 0, 70],
        [0],
    ],
)
def test_sums_of_rows(lengths, gpu):
    from contrarec.kernels.gpu.rows import row_sums

    rng = np.random.default_rng(1)
    outside = (3, 4)  # positions before the first row and after the last
    n = sum(lengths) + sum(outside)
    offsets = outside[0] + np.concatenate([[0], np.cumsum(lengths)])
    index, weights = rng.integers(-1, 7, n), rng.standard_normal(n)
    x, base = rng.standard_normal((6, 5)), rng.standard_normal((len(lengths), 5))
    want = base.copy()
    for r in range(len(lengths)):
        for q in range(offsets[r], offsets[r + 1]):
            if 0 <= index[q] < 6:
                want[r] += weights[q] * x[index[q]] / np.sqrt((x[index[q]] ** 2).sum())
    arrays = [torch.from_numpy(array).to(gpu) for array in (offsets, index, weights, x, base)]
    got = row_sums(*arrays[:4], dtype=torch.float64, unit=True, base=arrays[4], divisor=3)
    torch.testing.assert_close(got.cpu(), torch.from_numpy(want / 3), rtol=1e-12, atol=1e-12)
