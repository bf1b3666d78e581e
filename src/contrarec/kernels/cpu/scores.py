"""Gathered dot products with a hand-written backward, compiled."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from contrarec.errors import ConfigError
from contrarec.kernels.cpu.compile import njit, njit_serial, prange
from contrarec.kernels.cpu.grouping import CHUNKS, balanced_bound
from contrarec.kernels.grouping import Groups, group_positions

_FEW = 0.5  # of distinct items a pair: below it an item has pairs that are worth joining
_EPS = 1e-12  # what torch.nn.functional.normalize clamps a norm to


def sampled_scores(
    user_vectors: torch.Tensor,
    item_vectors: torch.Tensor,
    users: torch.Tensor,
    items: torch.Tensor,
    *,
    cosine: bool,
    sparse_grad: bool,
) -> torch.Tensor:
    """Compute `contrarec.kernels.scores.sampled_scores` of float32 or float64 tables."""
    # asked here, since within `forward` there is no telling
    learns = torch.is_grad_enabled() and (user_vectors.requires_grad or item_vectors.requires_grad)
    scores: torch.Tensor = _SampledScores.apply(  # type: ignore[no-untyped-call]
        user_vectors, item_vectors, users.long(), items.long(), cosine, sparse_grad, learns
    )
    return scores


class _Saved(NamedTuple):
    """What the backward pass needs beside the tables."""

    items: np.ndarray  # [B, N]
    unit_users: np.ndarray  # [B, dim], the gathered users times their scale
    user_scale: np.ndarray  # [B], inverse norms; 1 without cosine
    item_scale: np.ndarray  # [I], likewise, of the items that occur; empty without cosine
    pairs: Groups  # of the flattened items
    users: Groups


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
        sparse_grad: bool,
        learns: bool,
    ) -> torch.Tensor:
        user_vectors, item_vectors = user_vectors.contiguous(), item_vectors.contiguous()
        users, items = users.contiguous(), items.contiguous()
        _check_range("users", users, user_vectors.shape[0])
        _check_range("items", items, item_vectors.shape[0])
        gathered = user_vectors.detach().index_select(0, users)  # [B, dim]
        table, index = item_vectors.detach().numpy(), items.numpy()
        scores = user_vectors.new_empty(items.shape)
        pairs = group_positions(index.reshape(-1), len(table))
        user_scale = np.ones(len(index), table.dtype)
        item_scale = np.empty(len(table) if cosine else 0, table.dtype)
        if cosine:
            _inverse_norms(gathered.numpy(), np.arange(len(index)), user_scale)
            _inverse_norms(table, pairs.rows, item_scale)
            gathered *= torch.from_numpy(user_scale)[:, None]
        if len(index) < len(pairs.rows) < _FEW * index.size:
            _dots_by_item(
                gathered.numpy(), table, pairs.rows, pairs.offsets, pairs.order, index.shape[1],
                item_scale, cosine, scores.view(-1).numpy(),
            )  # fmt: skip
        else:
            _dots_by_row(gathered.numpy(), table, index, item_scale, cosine, scores.numpy())
        if not learns:
            return scores
        ctx.cosine, ctx.sparse_grad, ctx.n_users = cosine, sparse_grad, len(user_vectors)
        ctx.save_for_backward(item_vectors)
        ctx.saved = _Saved(
            index, gathered.numpy(), user_scale, item_scale, pairs,
            group_positions(users.numpy(), len(user_vectors)),
        )  # fmt: skip
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        saved: _Saved = ctx.saved
        table = ctx.saved_tensors[0].detach().numpy()
        weights = grad_outputs[0].contiguous().numpy()  # [B, N]
        grad_user = grad_item = None
        if ctx.needs_input_grad[0]:
            rows = np.empty_like(saved.unit_users)  # [B, dim]
            _user_gradients(
                table, saved.items, weights, saved.unit_users, saved.user_scale, saved.item_scale,
                ctx.cosine, rows,
            )  # fmt: skip
            grad, place = _gradient(saved.users, ctx.n_users, rows, ctx.sparse_grad)
            _sum_groups(rows, saved.users.offsets, saved.users.order, place, grad)
            grad_user = _tensor(saved.users, ctx.n_users, grad, ctx.sparse_grad)
        if ctx.needs_input_grad[1]:
            grad, place = _gradient(saved.pairs, len(table), table, ctx.sparse_grad)
            _item_gradients(
                saved.unit_users, table, weights.reshape(-1), saved.item_scale, saved.pairs.rows,
                saved.pairs.offsets, saved.pairs.order, saved.items.shape[1], ctx.cosine, place,
                grad,
            )  # fmt: skip
            grad_item = _tensor(saved.pairs, len(table), grad, ctx.sparse_grad)
        return grad_user, grad_item, None, None, None, None, None


def _gradient(
    groups: Groups, n_rows: int, like: np.ndarray, sparse: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Allocate a gradient; return it and the row of it that each group goes to.

    NumPy's memory, since it asks the system for large pages, which large tables need.
    """
    if sparse:
        n_groups = len(groups.rows)
        return np.empty((n_groups, like.shape[1]), like.dtype), np.arange(n_groups)
    return np.zeros((n_rows, like.shape[1]), like.dtype), groups.rows


def _tensor(groups: Groups, n_rows: int, grad: np.ndarray, sparse: bool) -> torch.Tensor:
    values = torch.from_numpy(grad)
    if not sparse:
        return values
    return torch.sparse_coo_tensor(
        torch.from_numpy(groups.rows)[None],
        values,
        (n_rows, grad.shape[1]),
        is_coalesced=True,
        check_invariants=False,
    )


def _check_range(name: str, index: torch.Tensor, size: int) -> None:
    # Compiled code does not check bounds: a wrong index would read foreign memory.
    if index.numel():
        low, high = torch.aminmax(index)
        if int(low) < 0 or int(high) >= size:
            raise ConfigError(
                f"`{name}` must lie in [0, {size}), got values from {int(low)} to {int(high)}."
            )


@njit
def _dots_by_item(U, V, rows, offsets, order, N, scale, cosine, out):  # type: ignore[no-untyped-def]
    # out[p] = U[p // N] · V[rows[g]] for the pairs p of item g, times the item's scale if cosine.
    # Where V is the larger of the two, it is read once and in its order, and U stays in a cache.
    d = V.shape[1]
    one, zero = V.dtype.type(1), V.dtype.type(0)
    for c in prange(CHUNKS):
        for g in range(balanced_bound(offsets, c, CHUNKS), balanced_bound(offsets, c + 1, CHUNKS)):
            v = V[rows[g]]
            factor = scale[rows[g]] if cosine else one
            q, end = offsets[g], offsets[g + 1]
            while q + 4 <= end:
                p0, p1, p2, p3 = order[q], order[q + 1], order[q + 2], order[q + 3]
                u0, u1, u2, u3 = U[p0 // N], U[p1 // N], U[p2 // N], U[p3 // N]
                dot0 = dot1 = dot2 = dot3 = zero
                for k in range(d):
                    dot0 += u0[k] * v[k]
                    dot1 += u1[k] * v[k]
                    dot2 += u2[k] * v[k]
                    dot3 += u3[k] * v[k]
                out[p0], out[p1] = dot0 * factor, dot1 * factor
                out[p2], out[p3] = dot2 * factor, dot3 * factor
                q += 4
            while q < end:
                p0 = order[q]
                u0 = U[p0 // N]
                dot0 = zero
                for k in range(d):
                    dot0 += u0[k] * v[k]
                out[p0] = dot0 * factor
                q += 1


@njit
def _dots_by_row(U, V, items, scale, cosine, out):  # type: ignore[no-untyped-def]
    # out[b, n] = U[b] · V[items[b, n]], times the item's scale if cosine
    d = U.shape[1]
    one, zero = V.dtype.type(1), V.dtype.type(0)
    for b in prange(items.shape[0]):
        u = U[b]
        for n in range(items.shape[1]):
            item = items[b, n]
            v = V[item]
            dot = zero
            for k in range(d):
                dot += u[k] * v[k]
            out[b, n] = dot * (scale[item] if cosine else one)


@njit
def _inverse_norms(V, rows, scale):  # type: ignore[no-untyped-def]
    # scale[r] = 1 / ‖V[r]‖ for the given rows r
    d = V.shape[1]
    one, eps = V.dtype.type(1), V.dtype.type(_EPS)
    for g in prange(len(rows)):
        v = V[rows[g]]
        square = V.dtype.type(0)
        for k in range(d):
            square += v[k] * v[k]
        scale[rows[g]] = one / max(np.sqrt(square), eps)


@njit
def _user_gradients(V, items, weights, units, user_scale, item_scale, cosine, out):  # type: ignore[no-untyped-def]
    # out[b] = sum_n weights[b, n] * V[items[b, n]], four rows at a time so that out stays in cache
    d = V.shape[1]
    N = items.shape[1]
    one = V.dtype.type(1)
    for b in prange(items.shape[0]):
        acc = out[b]
        acc[:] = 0
        n = 0
        while n + 4 <= N:
            i0, i1, i2, i3 = items[b, n], items[b, n + 1], items[b, n + 2], items[b, n + 3]
            w0, w1, w2, w3 = weights[b, n], weights[b, n + 1], weights[b, n + 2], weights[b, n + 3]
            if cosine:
                w0, w1 = w0 * item_scale[i0], w1 * item_scale[i1]
                w2, w3 = w2 * item_scale[i2], w3 * item_scale[i3]
            v0, v1, v2, v3 = V[i0], V[i1], V[i2], V[i3]
            for k in range(d):
                acc[k] += (w0 * v0[k] + w1 * v1[k]) + (w2 * v2[k] + w3 * v3[k])
            n += 4
        while n < N:
            i0 = items[b, n]
            v0 = V[i0]
            w0 = weights[b, n] * (item_scale[i0] if cosine else one)
            for k in range(d):
                acc[k] += w0 * v0[k]
            n += 1
        if cosine:
            _project_out(acc, units[b], one, user_scale[b])


@njit_serial
def _project_out(acc, x, scale, factor):  # type: ignore[no-untyped-def]
    # acc = factor · (acc − ⟨acc, x̂⟩·x̂) with x̂ = scale·x: the derivative of a cosine is orthogonal
    # to its vector
    along = x.dtype.type(0)
    for k in range(len(x)):
        along += acc[k] * x[k]
    along *= scale * scale
    for k in range(len(x)):
        acc[k] = (acc[k] - along * x[k]) * factor


@njit
def _sum_groups(rows, offsets, order, place, out):  # type: ignore[no-untyped-def]
    # out[place[g]] = sum of rows[p] over the positions p of group g
    d = rows.shape[1]
    for g in prange(len(offsets) - 1):
        acc = out[place[g]]
        acc[:] = 0
        for q in range(offsets[g], offsets[g + 1]):
            row = rows[order[q]]
            for k in range(d):
                acc[k] += row[k]


@njit
def _item_gradients(  # type: ignore[no-untyped-def]
    units, V, weights, item_scale, rows, offsets, order, N, cosine, place, out
):
    # out[place[g]] = sum over the pairs p of item g of weights[p] * units[p // N]
    d = V.shape[1]
    for c in prange(CHUNKS):
        for g in range(balanced_bound(offsets, c, CHUNKS), balanced_bound(offsets, c + 1, CHUNKS)):
            acc = out[place[g]]
            acc[:] = 0
            q = offsets[g]
            end = offsets[g + 1]
            while q + 4 <= end:
                p0, p1, p2, p3 = order[q], order[q + 1], order[q + 2], order[q + 3]
                u0, u1 = units[p0 // N], units[p1 // N]
                u2, u3 = units[p2 // N], units[p3 // N]
                w0, w1, w2, w3 = weights[p0], weights[p1], weights[p2], weights[p3]
                for k in range(d):
                    acc[k] += (w0 * u0[k] + w1 * u1[k]) + (w2 * u2[k] + w3 * u3[k])
                q += 4
            while q < end:
                p0 = order[q]
                u0 = units[p0 // N]
                w0 = weights[p0]
                for k in range(d):
                    acc[k] += w0 * u0[k]
                q += 1
            if cosine:
                scale = item_scale[rows[g]]
                _project_out(acc, V[rows[g]], scale, scale)
