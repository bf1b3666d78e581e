"""L2 of gathered rows, added to a gradient directly.

The penalty of a batch runs over the rows that it gathers, each as often as it is gathered. Through
autograd that would touch every row of a table, twice; by hand it costs one pass over the batch's
distinct rows.
"""

import numpy as np
import torch

from contrarec.errors import ConfigError
from contrarec.kernels.dispatch import Backend, resolve
from contrarec.kernels.grouping import group_positions


@torch.no_grad()
def add_l2(
    table: torch.Tensor, index: torch.Tensor, weight: float, *, backend: Backend = "auto"
) -> None:
    """Add to a table's gradient that of `weight/2 · Σ_p ‖table[index[p]]‖²`.

    Args:
        table: `[rows, dim]` with a gradient, dense or row-sparse; of a row-sparse one, every row
            of `index` must have an entry.
        index: integer row numbers of any shape; a row counts as often as it occurs.
        weight: may be negative, for a table that is to ascend.
        backend: `auto`, `reference` or `numba`.

    Raises:
        ConfigError: `table` has no gradient.
        BackendError: the back end asked for is not there.

    >>> table = torch.tensor([[1.0], [2.0]])
    >>> table.grad = torch.zeros(2, 1)
    >>> add_l2(table, torch.tensor([1, 1]), 0.5)
    >>> table.grad
    tensor([[0.],
            [2.]])
    """
    if weight == 0.0:
        return
    if table.grad is None:
        raise ConfigError("the loss does not depend on a table that is under L2: no gradient.")
    if table.grad.is_sparse:
        table.grad = table.grad.coalesce()
    twin = resolve(backend, table, index)
    add = add_l2_reference if twin == "reference" else _add_l2_numba
    add(table, index.reshape(-1), weight)


def add_l2_reference(table: torch.Tensor, index: torch.Tensor, weight: float) -> None:
    """Compute `add_l2` in plain torch, on any device and without waiting for it."""
    grad = table.grad
    if grad is None:
        return
    target = grad
    rows = table.detach()
    if grad.is_sparse:
        present = grad.indices()[0]
        index, target, rows = torch.searchsorted(present, index), grad.values(), rows[present]
    counts = torch.zeros(len(target), dtype=target.dtype, device=target.device)
    counts.index_add_(0, index, torch.ones_like(index, dtype=target.dtype))
    target.addcmul_(rows, counts[:, None], value=weight)


def _add_l2_numba(table: torch.Tensor, index: torch.Tensor, weight: float) -> None:
    grad = table.grad
    if grad is None:
        return
    from contrarec.kernels.cpu import l2 as cpu

    groups = group_positions(index.numpy(), len(table))
    place, target = groups.rows, grad
    if grad.is_sparse:
        present = grad.indices()[0].numpy()
        target = grad.values()
        place = np.searchsorted(present, groups.rows)
    values = table.detach().numpy()
    cpu.pull_rows(
        values, groups.rows, groups.offsets, place, values.dtype.type(weight), target.numpy()
    )
