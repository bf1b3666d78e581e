"""Scores of sampled items: gathered dot products that never build a `[B, N, dim]` tensor.

Every sampled loss of the package goes through `sampled_scores`. The compiled twin reads each
gathered row once in the forward pass and once for each gradient. The gradient of the items is
summed item by item, from the pairs grouped by item with a stable counting sort, so that no thread
races another and the result does not depend on their number.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from contrarec.errors import ConfigError
from contrarec.kernels.dispatch import Backend, njit, njit_serial, prange, resolve

_EPS = 1e-12  # what torch.nn.functional.normalize clamps a norm to
_CHUNKS = 64  # work items per parallel loop: enough to balance rows of unequal length


def sampled_scores(
    user_vectors: torch.Tensor,
    item_vectors: torch.Tensor,
    users: torch.Tensor,
    items: torch.Tensor,
    *,
    cosine: bool = False,
    backend: Backend = "auto",
) -> torch.Tensor:
    """Score each user of a batch against its own row of items.

    `out[b, n] = ⟨user_vectors[users[b]], item_vectors[items[b, n]]⟩`, of unit vectors if `cosine`.
    Differentiable in both tables; extra memory is O(B·N), never O(B·N·dim).

    Args:
        user_vectors: `[U, dim]`, floating point.
        item_vectors: `[I, dim]`, same type and device.
        users: `[B]`, integer indices into `user_vectors`.
        items: `[B, N]`, integer indices into `item_vectors`.
        cosine: normalise both vectors (norms below 1e-12 count as 1e-12, as in torch).
        backend: `auto`, `reference`, `numba` or `triton`.

    Returns:
        `[B, N]` scores in the tables' type; bfloat16 and float16 are accumulated in float32.

    Raises:
        ConfigError: shapes or types do not fit, or, with numba, an index is out of range (triton
            cannot tell without waiting for the device, and makes such scores NaN).
        BackendError: the back end asked for is not there.

    >>> U, V = torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> sampled_scores(U, V, torch.tensor([1]), torch.tensor([[0, 1]]))
    tensor([[2., 4.]])
    """
    _check(user_vectors, item_vectors, users, items)
    twin = resolve(backend, user_vectors, item_vectors, users, items, gpu=True)
    if twin == "reference":
        return sampled_scores_reference(user_vectors, item_vectors, users, items, cosine=cosine)
    if twin == "triton":
        from contrarec.kernels.gpu import scores as gpu

        return gpu.sampled_scores(user_vectors, item_vectors, users, items, cosine=cosine)
    dtype = user_vectors.dtype
    if dtype not in (torch.float32, torch.float64):
        user_vectors, item_vectors = user_vectors.float(), item_vectors.float()
    scores: torch.Tensor = _SampledScores.apply(  # type: ignore[no-untyped-call]
        user_vectors, item_vectors, users.long(), items.long(), cosine
    )
    return scores.to(dtype)


def sampled_scores_reference(
    user_vectors: torch.Tensor,
    item_vectors: torch.Tensor,
    users: torch.Tensor,
    items: torch.Tensor,
    *,
    cosine: bool = False,
) -> torch.Tensor:
    """Compute `sampled_scores` in plain torch, building `[B, N, dim]`: the oracle of the kernel."""
    dtype = user_vectors.dtype
    if dtype not in (torch.float32, torch.float64):
        user_vectors, item_vectors = user_vectors.float(), item_vectors.float()
    if cosine:
        user_vectors, item_vectors = F.normalize(user_vectors), F.normalize(item_vectors)
    gathered = item_vectors[items]  # [B, N, dim]
    return torch.einsum("bd,bnd->bn", user_vectors[users], gathered).to(dtype)


def _check(
    user_vectors: torch.Tensor,
    item_vectors: torch.Tensor,
    users: torch.Tensor,
    items: torch.Tensor,
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


class _SampledScores(torch.autograd.Function):
    """The compiled twin with its hand-written backward."""

    @staticmethod
    def forward(
        ctx: Any,
        user_vectors: torch.Tensor,
        item_vectors: torch.Tensor,
        users: torch.Tensor,
        items: torch.Tensor,
        cosine: bool,
    ) -> torch.Tensor:
        user_vectors, item_vectors = user_vectors.contiguous(), item_vectors.contiguous()
        users, items = users.contiguous(), items.contiguous()
        _check_range("users", users, user_vectors.shape[0])
        _check_range("items", items, item_vectors.shape[0])
        scores = user_vectors.new_empty(items.shape)
        # Inverse norms are kept for the backward pass; without cosine they are not looked at.
        user_scale = user_vectors.new_empty(items.shape[0] if cosine else 0)  # [B]
        item_scale = user_vectors.new_empty(items.shape if cosine else (0, 0))  # [B, N]
        arrays = [
            tensor.detach().numpy() for tensor in (user_vectors, item_vectors, users, items, scores)
        ]
        if cosine:
            _forward_cosine(*arrays, user_scale.numpy(), item_scale.numpy())
        else:
            _forward_dot(*arrays)
        ctx.save_for_backward(
            user_vectors, item_vectors, users, items, scores, user_scale, item_scale
        )
        ctx.cosine = cosine
        return scores

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        U, V, users, items, scores, user_scale, item_scale = ctx.saved_tensors
        weights = grad_outputs[0].contiguous()  # [B, N]
        # d cos(u, v) / du = (v̂ − cos·û) / |u|: a weighted sum of rows minus a multiple of u.
        drop = weights * scores if ctx.cosine else None
        grad_user = grad_item = None
        if ctx.needs_input_grad[0]:
            row_weights = (weights * item_scale if ctx.cosine else weights).numpy()
            rows = U.new_empty((len(users), U.shape[1]))  # [B, dim]
            _weighted_rows(V.numpy(), items.numpy(), row_weights, rows.numpy())
            if drop is not None:
                unit = U[users] * user_scale[:, None]
                rows = (rows - drop.sum(1, keepdim=True) * unit) * user_scale[:, None]
            offsets, order = group_rows(users.numpy(), U.shape[0])
            grad_user = torch.empty_like(U)
            _sum_groups(rows.numpy(), offsets, order, grad_user.numpy())
        if ctx.needs_input_grad[1]:
            offsets, order = group_rows(items.numpy().reshape(-1), V.shape[0])
            pair_weights = (weights * user_scale[:, None] if ctx.cosine else weights).numpy()
            grad_item = torch.empty_like(V)
            _sum_pairs(
                U.numpy(), users.numpy(), pair_weights.reshape(-1), offsets, order,
                items.shape[1], grad_item.numpy(),
            )  # fmt: skip
            if drop is not None:
                _project_out(
                    V.numpy(), drop.numpy().reshape(-1), item_scale.numpy().reshape(-1),
                    offsets, order, grad_item.numpy(),
                )  # fmt: skip
        return grad_user, grad_item, None, None, None


def _check_range(name: str, index: torch.Tensor, size: int) -> None:
    # Compiled code does not check bounds: a wrong index would read foreign memory.
    if index.numel():
        low, high = torch.aminmax(index)
        if int(low) < 0 or int(high) >= size:
            raise ConfigError(
                f"`{name}` must lie in [0, {size}), got values from {int(low)} to {int(high)}."
            )


def group_rows(keys: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Group positions by key with a stable counting sort.

    Args:
        keys: `[P]`, integers in `[0, n_groups)`.
        n_groups: number of groups.

    Returns:
        `offsets [n_groups + 1]` and `order [P]`: group `g` holds the positions
        `order[offsets[g]:offsets[g + 1]]`, ascending.
    """
    offsets = np.zeros(n_groups + 1, np.int64)
    order = np.empty(len(keys), np.int32)
    _counting_sort(keys, offsets, order)
    return offsets, order


@njit
def _forward_dot(U, V, users, items, out):  # type: ignore[no-untyped-def]
    d = U.shape[1]
    for b in prange(items.shape[0]):
        u = U[users[b]]
        for n in range(items.shape[1]):
            v = V[items[b, n]]
            dot = U.dtype.type(0)
            for k in range(d):
                dot += u[k] * v[k]
            out[b, n] = dot


@njit
def _forward_cosine(U, V, users, items, out, user_scale, item_scale):  # type: ignore[no-untyped-def]
    d = U.shape[1]
    one = U.dtype.type(1)
    eps = U.dtype.type(_EPS)
    for b in prange(items.shape[0]):
        u = U[users[b]]
        square = U.dtype.type(0)
        for k in range(d):
            square += u[k] * u[k]
        su = one / max(np.sqrt(square), eps)
        user_scale[b] = su
        for n in range(items.shape[1]):
            v = V[items[b, n]]
            dot = U.dtype.type(0)
            square_v = U.dtype.type(0)
            for k in range(d):
                dot += u[k] * v[k]
                square_v += v[k] * v[k]
            sv = one / max(np.sqrt(square_v), eps)
            item_scale[b, n] = sv
            out[b, n] = dot * su * sv


@njit
def _weighted_rows(V, items, weights, out):  # type: ignore[no-untyped-def]
    # out[b] = sum_n weights[b, n] * V[items[b, n]], four rows at a time so that out stays in cache
    d = V.shape[1]
    N = items.shape[1]
    for b in prange(items.shape[0]):
        acc = out[b]
        acc[:] = 0
        n = 0
        while n + 4 <= N:
            v0, v1 = V[items[b, n]], V[items[b, n + 1]]
            v2, v3 = V[items[b, n + 2]], V[items[b, n + 3]]
            w0, w1, w2, w3 = weights[b, n], weights[b, n + 1], weights[b, n + 2], weights[b, n + 3]
            for k in range(d):
                acc[k] += (w0 * v0[k] + w1 * v1[k]) + (w2 * v2[k] + w3 * v3[k])
            n += 4
        while n < N:
            v0 = V[items[b, n]]
            w0 = weights[b, n]
            for k in range(d):
                acc[k] += w0 * v0[k]
            n += 1


@njit_serial
def _counting_sort(keys, offsets, order):  # type: ignore[no-untyped-def]
    for p in range(len(keys)):
        offsets[keys[p] + 1] += 1
    for g in range(len(offsets) - 1):
        offsets[g + 1] += offsets[g]
    cursor = offsets[:-1].copy()
    for p in range(len(keys)):
        g = keys[p]
        order[cursor[g]] = p
        cursor[g] += 1


@njit
def _sum_groups(rows, offsets, order, out):  # type: ignore[no-untyped-def]
    # out[g] = sum of rows[p] over the positions p of group g
    d = rows.shape[1]
    for g in prange(len(offsets) - 1):
        acc = out[g]
        acc[:] = 0
        for q in range(offsets[g], offsets[g + 1]):
            row = rows[order[q]]
            for k in range(d):
                acc[k] += row[k]


@njit_serial
def balanced_bound(offsets, chunk, n_chunks):  # type: ignore[no-untyped-def]
    """Find where chunk `chunk` of `n_chunks` starts, so that all hold about equal work.

    Work is the number of positions plus the number of groups; popular items must not pile up.
    """
    n_groups = len(offsets) - 1
    target = (offsets[n_groups] + n_groups) * chunk // n_chunks
    low, high = 0, n_groups
    while low < high:
        middle = (low + high) // 2
        if offsets[middle] + middle < target:
            low = middle + 1
        else:
            high = middle
    return low


@njit
def _sum_pairs(U, users, weights, offsets, order, n_items_per_row, out):  # type: ignore[no-untyped-def]
    # out[i] = sum over the pairs p of item i of weights[p] * U[users[p // N]]
    d = U.shape[1]
    for c in prange(_CHUNKS):
        for g in range(
            balanced_bound(offsets, c, _CHUNKS), balanced_bound(offsets, c + 1, _CHUNKS)
        ):
            acc = out[g]
            acc[:] = 0
            q = offsets[g]
            end = offsets[g + 1]
            while q + 4 <= end:
                p0, p1, p2, p3 = order[q], order[q + 1], order[q + 2], order[q + 3]
                u0, u1 = U[users[p0 // n_items_per_row]], U[users[p1 // n_items_per_row]]
                u2, u3 = U[users[p2 // n_items_per_row]], U[users[p3 // n_items_per_row]]
                w0, w1, w2, w3 = weights[p0], weights[p1], weights[p2], weights[p3]
                for k in range(d):
                    acc[k] += (w0 * u0[k] + w1 * u1[k]) + (w2 * u2[k] + w3 * u3[k])
                q += 4
            while q < end:
                p0 = order[q]
                u0 = U[users[p0 // n_items_per_row]]
                w0 = weights[p0]
                for k in range(d):
                    acc[k] += w0 * u0[k]
                q += 1


@njit
def _project_out(V, drop, item_scale, offsets, order, out):  # type: ignore[no-untyped-def]
    # out[i] = (out[i] - (sum_p drop[p]) * unit(V[i])) / |V[i]|
    d = V.shape[1]
    for g in prange(len(offsets) - 1):
        first = offsets[g]
        if first < offsets[g + 1]:
            scale = item_scale[order[first]]
            total = V.dtype.type(0)
            for q in range(first, offsets[g + 1]):
                total += drop[order[q]]
            v = V[g]
            acc = out[g]
            for k in range(d):
                acc[k] = (acc[k] - total * v[k] * scale) * scale
