"""`sampled_scores` on a GPU.

The forward pass gives one program a user and a tile of its items. The backward pass groups the
pairs by item, and the rows of the batch by user, with a stable sort on the device; every gradient
is then a sum of table rows (`rows.py`) in a fixed order, without atomics. Nothing is kept for it
beside the inputs (or their narrow copies): norms are computed again from rows that are read anyway.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from contrarec.kernels.gpu.rows import accumulator, inverse_norm, load_rows, row_sums, tile_options


def sampled_scores(
    user_vectors: torch.Tensor,
    item_vectors: torch.Tensor,
    users: torch.Tensor,
    items: torch.Tensor,
    *,
    cosine: bool = False,
    storage: torch.dtype | None = None,
) -> torch.Tensor:
    """Compute `contrarec.kernels.scores.sampled_scores` for tables of any floating-point type.

    Tables are read as they are stored and accumulated in float32 (float64 in float64). With
    `storage` each table is copied to that type once, and the copies are what is read and what is
    kept for the backward pass; scores and gradients have the type of the tables.

    An index outside its table cannot be refused without waiting for the device. No memory is read
    for it: its score is NaN, so that the loss becomes NaN, which the training loop notices.
    """
    scores: torch.Tensor = _SampledScores.apply(  # type: ignore[no-untyped-call]
        user_vectors, item_vectors, users, items, cosine, storage
    )
    return scores


class _SampledScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        user_vectors: torch.Tensor,
        item_vectors: torch.Tensor,
        users: torch.Tensor,
        items: torch.Tensor,
        cosine: bool,
        storage: torch.dtype | None,
    ) -> torch.Tensor:
        dtype = user_vectors.dtype
        U, V = (table.to(storage or dtype).contiguous() for table in (user_vectors, item_vectors))
        users, items = users.contiguous(), items.contiguous()
        n_rows, n_cols = items.shape
        options = tile_options(U.shape[1])
        scores = U.new_empty(n_rows, n_cols, dtype=dtype)
        with torch.cuda.device_of(U):  # type: ignore[no-untyped-call]
            _forward[(n_rows, triton.cdiv(n_cols, options["BLOCK"]))](
                U, V, users, items, scores, len(U), len(V), n_cols, U.shape[1],
                COSINE=cosine, DOUBLE=U.dtype == torch.float64, **options,
            )  # fmt: skip
        ctx.save_for_backward(U, V, users, items)
        ctx.cosine, ctx.dtype = cosine, dtype
        return scores

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        U, V, users, items = ctx.saved_tensors
        weights = grad_outputs[0].contiguous().view(-1)  # [B * N]; of a sum it is one number
        n_rows, n_cols = items.shape
        unit = ctx.cosine
        grad_user = grad_item = None
        if ctx.needs_input_grad[0]:
            starts = torch.arange(n_rows + 1, device=U.device) * n_cols
            # [B, dim]: the gradient of each row's own vector
            rows = row_sums(starts, items.view(-1), weights, V, dtype=accumulator(V), unit=unit)
            offsets, order = _group(users, len(U))
            ones = weights.new_ones(n_rows)
            grad_user = row_sums(
                offsets, order, ones, rows, dtype=ctx.dtype, tangent=U if unit else None
            )
        if ctx.needs_input_grad[1]:
            offsets, order = _group(items.view(-1), len(V))
            grad_item = row_sums(
                offsets,
                users[order // max(1, n_cols)],
                weights[order],
                U,
                dtype=ctx.dtype,
                unit=unit,
                tangent=V if unit else None,
            )
        return grad_user, grad_item, None, None, None, None


def _group(keys: torch.Tensor, n_groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Group positions by key, ascending in each group; wrong keys lie outside all groups.

    Returns `offsets [n_groups + 1]` and `order [P]`, both int64.
    """
    narrow = torch.int32 if n_groups < 2**31 - 1 else torch.int64  # half the work for the sort
    ordered, order = keys.clamp(-1, n_groups).to(narrow).sort(stable=True)
    groups = torch.arange(n_groups + 1, device=keys.device, dtype=narrow)
    return torch.searchsorted(ordered, groups), order


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    U, V, users, items, out, n_users, n_items, n_cols, dim,
    COSINE: tl.constexpr, DOUBLE: tl.constexpr, BLOCK: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    TYPE: tl.constexpr = tl.float64 if DOUBLE else tl.float32
    b = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    user = tl.load(users + b + tl.zeros([1], tl.int64))  # [1]
    item = tl.load(items + b * n_cols + n, mask=n < n_cols, other=0)
    known_user = (user >= 0) & (user < n_users)
    known_item = (item >= 0) & (item < n_items)
    u = load_rows(U, user, known_user, dim, TYPE, DIM)  # [1, DIM]
    v = load_rows(V, item, known_item, dim, TYPE, DIM)  # [BLOCK, DIM]
    score = tl.sum(u * v, 1)
    if COSINE:
        score *= inverse_norm(u) * inverse_norm(v)
    score = tl.where(known_user & known_item, score, float("nan"))
    tl.store(out + b * n_cols + n, score.to(out.dtype.element_ty), mask=n < n_cols)
