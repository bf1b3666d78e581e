"""Lazy Adam against torch's Adam and a naive loop; L2 of gathered rows against autograd."""

import numpy as np
import pytest
import torch

from contrarec.errors import ConfigError
from contrarec.kernels.adam import adam_rows
from contrarec.kernels.dispatch import set_threads
from contrarec.kernels.l2 import add_l2
from contrarec.kernels.scores import sampled_scores
from contrarec.optimizers import LAZY_ROWS, LazyAdam, is_lazy, make_adam

BACKENDS = ["reference", "numba"]


def sparse(rows, values, shape):
    index, values = torch.as_tensor(rows)[None], torch.as_tensor(values)
    return torch.sparse_coo_tensor(index, values, shape, check_invariants=True)


@pytest.mark.parametrize("maximize", [False, True])
def test_it_is_adam_when_every_row_is_touched(maximize):
    g = torch.Generator().manual_seed(0)
    ours = torch.randn(7, 5, generator=g, dtype=torch.float64).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    lazy = LazyAdam([ours], lr=0.02, maximize=maximize)
    adam = torch.optim.Adam([theirs], lr=0.02, maximize=maximize)
    for _ in range(20):
        grad = torch.randn(7, 5, generator=g, dtype=torch.float64)
        ours.grad, theirs.grad = sparse(range(7), grad, (7, 5)), grad
        lazy.step()
        adam.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_step_by_hand(backend):
    # β1 = .9: m = .9·1 + .1·3 = 1.2; β2 = .99: v = .99·4 + .01·9 = 4.05; the other row stays
    table, mean, square = (torch.tensor([[x], [x]]).double() for x in (10.0, 1.0, 4.0))
    adam_rows(
        table, mean, square, torch.tensor([1]), torch.tensor([[3.0]]).double(),
        betas=(0.9, 0.99), rate=0.5, root_scale=2.0, eps=0.25, backend=backend,
    )  # fmt: skip
    assert mean.flatten().tolist() == [1.0, pytest.approx(1.2)]
    assert square.flatten().tolist() == [4.0, pytest.approx(4.05)]
    expected = 10 - 0.5 * 1.2 / (2 * 4.05**0.5 + 0.25)
    assert table.flatten().tolist() == [10.0, pytest.approx(expected)]


@pytest.mark.parametrize("n_rows", [0, 1, 63, 200])
def test_twins_agree(n_rows):
    results = []
    for backend in BACKENDS:
        g = torch.Generator().manual_seed(1)
        arrays = [torch.rand(300, 9, generator=g) for _ in range(3)]
        rows = torch.randperm(300, generator=g)[:n_rows]
        grads = torch.randn(9, n_rows, generator=g).t()  # not contiguous
        options = {"betas": (0.9, 0.999), "rate": -0.1, "root_scale": 1.5, "eps": 1e-8}
        adam_rows(*arrays, rows, grads, **options, backend=backend)
        results.append(arrays)
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_untouched_rows_and_their_moments_stay():
    table = torch.ones(4, 2, requires_grad=True)
    lazy = LazyAdam([table], lr=0.1)
    table.grad = sparse([0, 2], [[1.0, 1.0], [2.0, 2.0]], (4, 2))
    lazy.step()
    after = table.detach().clone()
    table.grad = sparse([2, 2], [[1.0, 1.0], [1.0, 1.0]], (4, 2))  # not coalesced: means 2
    lazy.step()
    moved = (table != after).all(1).tolist()
    assert moved == [False, False, True, False]
    assert lazy.state[table]["exp_avg"][:, 0].tolist() == pytest.approx([0.1, 0, 0.38, 0])


def test_bit_equal_for_any_number_of_threads():
    tables = []
    threads = torch.get_num_threads()
    try:
        for n in (1, 2):
            set_threads(n)
            g = torch.Generator().manual_seed(0)
            U, V = (torch.randn(90, 8, generator=g).requires_grad_() for _ in range(2))
            users = torch.randint(0, 90, (40,), generator=g)
            items = torch.randint(0, 90, (40, 6), generator=g)
            lazy = LazyAdam([U, V], lr=0.1)
            for _ in range(3):
                sampled_scores(U, V, users, items, sparse_grad=True).square().sum().backward()
                add_l2(V, items, 0.1)
                lazy.step()
                lazy.zero_grad()
            tables.append((U, V))
    finally:
        set_threads(threads)
    for one, two in zip(*tables, strict=True):
        assert torch.equal(one, two)


def test_wrong_use_is_refused():
    with pytest.raises(ConfigError, match="`lr` must be positive, got 0"):
        LazyAdam([torch.ones(1, 1)], lr=0)
    table = torch.ones(2, 2, requires_grad=True)
    table.grad = torch.ones(2, 2)
    with pytest.raises(ConfigError, match="row-sparse"):
        LazyAdam([table]).step()
    table.grad = None
    LazyAdam([table]).step()  # nothing to do


def test_when_auto_is_lazy():
    few, many = torch.empty(LAZY_ROWS - 9, 1), torch.empty(LAZY_ROWS - 8, 1)
    rest = torch.empty(8, 1)
    assert not is_lazy("auto", few, rest)
    assert is_lazy("auto", many, rest)
    assert not is_lazy("auto", many.to("meta"), rest)
    assert not is_lazy("adam", many, rest)
    assert is_lazy("lazy_adam", rest)
    table = torch.nn.Parameter(torch.ones(1, 1))
    assert isinstance(make_adam([table], lr=0.1, lazy=True), LazyAdam)
    assert isinstance(make_adam([table], lr=0.1, lazy=False), torch.optim.Adam)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("row_sparse", [False, True])
def test_l2_is_the_gradient_of_half_the_squared_rows(backend, row_sparse):
    g = torch.Generator().manual_seed(0)
    table = torch.randn(30, 5, generator=g, dtype=torch.float64).requires_grad_()
    index = 2 * torch.randint(0, 15, (7, 4), generator=g)
    present = torch.cat([index.flatten(), torch.tensor([1, 15, 29])]).unique()  # and rows between
    start = torch.randn(len(present), 5, generator=g, dtype=torch.float64)
    dense = torch.zeros(30, 5, dtype=torch.float64).index_add_(0, present, start)
    table.grad = sparse(present, start, (30, 5)) if row_sparse else dense.clone()
    (pull,) = torch.autograd.grad(0.3 * 0.5 * table[index].square().sum(), table)
    add_l2(table, index, 0.3, backend=backend)
    assert table.grad.is_sparse == row_sparse
    torch.testing.assert_close(table.grad.to_dense() if row_sparse else table.grad, dense + pull)


def test_l2_without_weight_or_gradient():
    table = torch.ones(2, 2, requires_grad=True)
    add_l2(table, torch.tensor([0]), 0.0)
    with pytest.raises(ConfigError, match="no gradient"):
        add_l2(table, torch.tensor([0]), 0.1)


def test_state_survives_a_round_trip():
    table = torch.ones(3, 2, requires_grad=True)
    lazy = LazyAdam([table], lr=0.1)
    table.grad = sparse([1], [[1.0, 2.0]], (3, 2))
    lazy.step()
    other = LazyAdam([table], lr=0.1)
    other.load_state_dict(lazy.state_dict())
    for name, value in lazy.state[table].items():
        assert np.array_equal(other.state[table][name], value)
