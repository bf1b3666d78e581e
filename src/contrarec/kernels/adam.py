"""One step of Adam on some rows of a table."""

import torch

from contrarec.kernels.dispatch import Backend, resolve


def adam_rows(
    table: torch.Tensor,
    mean: torch.Tensor,
    square: torch.Tensor,
    rows: torch.Tensor,
    grads: torch.Tensor,
    *,
    betas: tuple[float, float],
    rate: float,
    root_scale: float,
    eps: float,
    backend: Backend = "auto",
) -> None:
    """Update rows of a table and of its moments in place.

    `m ← β1·m + (1 − β1)·g`, `v ← β2·v + (1 − β2)·g²`,
    `x ← x − rate · m / (root_scale·√v + eps)`.

    Args:
        table: `[R, dim]`; `mean` and `square` likewise, the moments.
        mean: first moment.
        square: second moment.
        rows: `[G]` distinct row numbers.
        grads: `[G, dim]`.
        betas: decay of the moments.
        rate: learning rate over the first moment's bias correction; negative to ascend.
        root_scale: one over the root of the second moment's bias correction.
        eps: added to the root.
        backend: `auto`, `reference` or `numba`.

    Raises:
        BackendError: the back end asked for is not there.
    """
    if resolve(backend, table, rows) == "reference":
        adam_rows_reference(
            table, mean, square, rows, grads,
            betas=betas, rate=rate, root_scale=root_scale, eps=eps,
        )  # fmt: skip
        return
    from contrarec.kernels.cpu import adam as cpu

    scalar = table.detach().numpy().dtype.type
    cpu.adam_rows(
        *(tensor.detach().numpy() for tensor in (table, mean, square, rows, grads.contiguous())),
        scalar(betas[0]), scalar(betas[1]), scalar(rate), scalar(root_scale), scalar(eps),
    )  # fmt: skip


def adam_rows_reference(
    table: torch.Tensor,
    mean: torch.Tensor,
    square: torch.Tensor,
    rows: torch.Tensor,
    grads: torch.Tensor,
    *,
    betas: tuple[float, float],
    rate: float,
    root_scale: float,
    eps: float,
) -> None:
    """Compute `adam_rows` in plain torch, on any device."""
    first, second = betas
    mean[rows] = m = mean[rows].lerp(grads, 1 - first)
    square[rows] = v = second * square[rows] + (1 - second) * grads.square()
    table[rows] -= rate * m / (root_scale * v.sqrt() + eps)
