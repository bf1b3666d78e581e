"""`sampled_scores`, forward and backward, against bmm over gathered embeddings."""

from collections.abc import Callable, Iterator

import torch

from benchmarks.record import Row, pair
from contrarec.kernels.scores import sampled_scores, sampled_scores_reference

WHAT = "kernels: sampled_scores, forward and backward"
DIM = 64
SIZES = (  # users, items, batch, negatives
    (14_382, 1_000, 1024, 64),
    (95_623, 42_000, 2048, 128),
    (95_623, 1_000_000, 2048, 128),
)

Problem = tuple[torch.Tensor, ...]
"""user vectors `[U, dim]`, item vectors `[I, dim]`, users `[B]`, items `[B, N]`, grad `[B, N]`"""


def rows(*, short: bool, sizes: tuple[tuple[int, int, int, int], ...] = SIZES) -> Iterator[Row]:
    """Yield two rows a size: scores from a whole user table, and from the batch's own vectors."""
    for n_users, n_items, batch, n_neg in sizes:
        shape = f"{batch} × {n_neg} of {n_items:,} items, dim {DIM}"
        for vectors, which in (
            (n_users, f"table of {n_users:,} users"),
            (batch, "the batch's user vectors alone"),
        ):
            problem = make_problem(vectors, n_items, batch, n_neg)
            _check(problem)
            yield {
                "what": WHAT,
                "shape": f"{shape}, {which}",
                "other": "torch, bmm over gathered embeddings",
            } | pair(ours(problem), bmm(problem), 3 if short else 7, calls=1 if short else 3)


def ours(problem: Problem) -> Callable[[], Problem]:
    """Return a function that computes the gradients of both tables."""
    U, V, users, items, grad = problem

    def step() -> Problem:
        return torch.autograd.grad(sampled_scores(U, V, users, items), (U, V), grad)

    return step


def bmm(problem: Problem) -> Callable[[], Problem]:
    """Return a function that does the same as anyone would write it in torch."""
    U, V, users, items, grad = problem
    alone = len(U) == len(users)  # then nothing has to be gathered

    def step() -> Problem:
        rows = U if alone else U[users]
        scores = torch.bmm(V[items], rows[:, :, None])[:, :, 0]
        return torch.autograd.grad(scores, (U, V), grad)

    return step


def make_problem(n_vectors: int, n_items: int, batch: int, n_neg: int) -> Problem:
    """Draw vectors, a batch and a gradient; with `batch` vectors, each row has its own."""
    g = torch.Generator().manual_seed(0)
    U = torch.randn(n_vectors, DIM, generator=g).requires_grad_()
    V = torch.randn(n_items, DIM, generator=g).requires_grad_()
    if n_vectors == batch:
        users = torch.arange(batch)
    else:
        users = torch.randint(0, n_vectors, (batch,), generator=g)
    items = torch.randint(0, n_items, (batch, n_neg), generator=g)
    return U, V, users, items, torch.randn(batch, n_neg, generator=g)


def _check(problem: Problem) -> None:
    U, V, users, items, _ = problem
    with torch.no_grad():
        got, want = sampled_scores(U, V, users, items), sampled_scores_reference(U, V, users, items)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    for mine, theirs in zip(ours(problem)(), bmm(problem)(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-3)
