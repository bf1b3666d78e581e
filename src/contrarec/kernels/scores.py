"""Scores of sampled items: gathered dot products that never build a `[B, N, dim]` tensor.

Every sampled loss of the package goes through `sampled_scores`. The compiled twin reads each
gathered row once in the forward pass and once for each gradient. The gradient of the items is
summed item by item, from the pairs grouped by item with a stable sort, so that no thread races
another and the result does not depend on their number.
"""

from typing import Any

import torch
import torch.nn.functional as F

from contrarec.errors import ConfigError
from contrarec.kernels.dispatch import Backend, resolve


def sampled_scores(
    user_vectors: torch.Tensor,
    item_vectors: torch.Tensor,
    users: torch.Tensor,
    items: torch.Tensor,
    *,
    cosine: bool = False,
    sparse_grad: bool = False,
    storage: torch.dtype | None = None,
    backend: Backend = "auto",
) -> torch.Tensor:
    """Score each user of a batch against its own row of items.

    `out[b, n] = ⟨user_vectors[users[b]], item_vectors[items[b, n]]⟩`, of unit vectors if `cosine`.
    Differentiable in both tables; extra memory beside the gradients is O(B·N), and a number an
    item with `cosine` on a CPU, never O(B·N·dim).

    Args:
        user_vectors: `[U, dim]`, floating point.
        item_vectors: `[I, dim]`, same type and device.
        users: `[B]`, integer indices into `user_vectors`.
        items: `[B, N]`, integer indices into `item_vectors`.
        cosine: normalise both vectors (norms below 1e-12 count as 1e-12, as in torch).
        sparse_grad: give gradients as row-sparse tensors (coalesced COO, as of
            `torch.nn.Embedding(sparse=True)`), whose size is that of the batch's distinct rows.
        storage: read float32 tables rounded to this type, `torch.bfloat16`; None reads them as they
            are. Sums, scores and gradients stay float32, and the gradients are those at the rounded
            vectors, passed straight through the rounding. On a GPU copies of half the size are
            made, read and kept. On a CPU nothing is gained, and large tables cost time: what is
            read there are rounded copies in float32. Numba has no bfloat16, and kernels that widen
            its bits gained a little where the tables fit the cache, while for large ones the copy
            cost more than it saved (`benchmarks/storage-experiments.json`).
        backend: `auto`, `reference`, `numba` or `triton`; on a GPU row-sparse gradients come from
            the reference.

    Returns:
        `[B, N]` scores in the tables' type; bfloat16 and float16 are accumulated in float32.

    Raises:
        ConfigError: shapes, types or `storage` do not fit, or, with numba, an index is out of range
            (triton cannot tell without waiting for the device, and makes such scores NaN).
        BackendError: the back end asked for is not there.

    >>> U, V = torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> sampled_scores(U, V, torch.tensor([1]), torch.tensor([[0, 1]]))
    tensor([[2., 4.]])
    """
    _check(user_vectors, item_vectors, users, items, storage)
    # row-sparse gradients have no Triton twin: dense Adam is quick enough on a GPU
    twin = resolve(backend, user_vectors, item_vectors, users, items, gpu=not sparse_grad)
    if twin == "reference":
        return sampled_scores_reference(
            user_vectors,
            item_vectors,
            users,
            items,
            cosine=cosine,
            sparse_grad=sparse_grad,
            storage=storage,
        )
    if twin == "triton":
        from contrarec.kernels.gpu import scores as gpu

        return gpu.sampled_scores(
            user_vectors, item_vectors, users, items, cosine=cosine, storage=storage
        )
    user_vectors, item_vectors = _rounded(user_vectors, storage), _rounded(item_vectors, storage)
    dtype = user_vectors.dtype
    if dtype not in (torch.float32, torch.float64):
        user_vectors, item_vectors = user_vectors.float(), item_vectors.float()
    from contrarec.kernels.cpu import scores as cpu

    scores = cpu.sampled_scores(
        user_vectors, item_vectors, users, items, cosine=cosine, sparse_grad=sparse_grad
    )
    return scores.to(dtype)


def sampled_scores_reference(
    user_vectors: torch.Tensor,
    item_vectors: torch.Tensor,
    users: torch.Tensor,
    items: torch.Tensor,
    *,
    cosine: bool = False,
    sparse_grad: bool = False,
    storage: torch.dtype | None = None,
) -> torch.Tensor:
    """Compute `sampled_scores` in plain torch, building `[B, N, dim]`: the oracle of the kernel."""
    user_vectors, item_vectors = _rounded(user_vectors, storage), _rounded(item_vectors, storage)
    dtype = user_vectors.dtype
    if dtype not in (torch.float32, torch.float64):
        user_vectors, item_vectors = user_vectors.float(), item_vectors.float()
    user_rows = F.embedding(users, user_vectors, sparse=sparse_grad)  # [B, dim]
    item_rows = F.embedding(items, item_vectors, sparse=sparse_grad)  # [B, N, dim]
    if cosine:
        user_rows, item_rows = F.normalize(user_rows, dim=-1), F.normalize(item_rows, dim=-1)
    return torch.einsum("bd,bnd->bn", user_rows, item_rows).to(dtype)


def _check(
    user_vectors: torch.Tensor,
    item_vectors: torch.Tensor,
    users: torch.Tensor,
    items: torch.Tensor,
    storage: torch.dtype | None,
) -> None:
    if user_vectors.ndim != 2 or item_vectors.ndim != 2:
        raise ConfigError(
            "`user_vectors` and `item_vectors` must be [rows, dim], got "
            f"{tuple(user_vectors.shape)} and {tuple(item_vectors.shape)}."
        )
    if user_vectors.shape[1] != item_vectors.shape[1] or user_vectors.dtype != item_vectors.dtype:
        raise ConfigError(
            "`user_vectors` and `item_vectors` must agree in dim and dtype, got "
            f"{tuple(user_vectors.shape)} {user_vectors.dtype} and "
            f"{tuple(item_vectors.shape)} {item_vectors.dtype}."
        )
    if users.ndim != 1 or items.ndim != 2 or users.shape[0] != items.shape[0]:
        raise ConfigError(
            "`users` must be [B] and `items` [B, N] with the same B, got "
            f"{tuple(users.shape)} and {tuple(items.shape)}."
        )
    if storage is not None and (storage, user_vectors.dtype) != (torch.bfloat16, torch.float32):
        raise ConfigError(
            "`storage` must be None, or torch.bfloat16 with float32 tables, got "
            f"{storage} with {user_vectors.dtype}."
        )


def _rounded(table: torch.Tensor, storage: torch.dtype | None) -> torch.Tensor:
    """Return the values that a table would have in `storage`, in its own type."""
    if storage is None:
        return table
    rounded: torch.Tensor = _Rounded.apply(table, storage)  # type: ignore[no-untyped-call]
    return rounded


class _Rounded(torch.autograd.Function):
    """Rounding that gradients pass straight through."""

    @staticmethod
    def forward(ctx: Any, table: torch.Tensor, storage: torch.dtype) -> torch.Tensor:  # noqa: ARG004
        return table.to(storage).to(table.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor, None]:  # noqa: ARG004
        return grad_outputs[0], None
