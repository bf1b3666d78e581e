"""Optimizers of tables: Adam, and lazy Adam, which moves only the rows that a batch touched.

Adam moves every row at every step, also those without a gradient: their moments decay and carry
them on. At millions of rows nearly all of a step goes into that. Lazy Adam leaves such rows as they
are until they are touched again.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from contrarec.config import OptimizerName
from contrarec.errors import ConfigError
from contrarec.kernels.adam import adam_rows

LAZY_ROWS = 200_000
"""Rows of all tables together from which on `auto` is lazy: there Adam takes half of a step."""


class LazyAdam(torch.optim.Optimizer):
    """Adam on row-sparse gradients: rows without a gradient, and their moments, stay as they are.

    Args:
        params: tables `[rows, dim]`, whose gradients are row-sparse (`sampled_scores` with
            `sparse_grad=True`, `torch.nn.Embedding(sparse=True)`).
        lr: learning rate.
        betas: decay of the two moments, once per step that touches the row.
        eps: added to the root of the second moment.
        maximize: ascend instead of descend.

    Raises:
        ConfigError: `lr` is not positive, or (on a step) a gradient is dense.

    Source:
        "Sparse" Adam of torch and LazyAdam of TensorFlow Addons, from Kingma & Ba, ICLR 2015.

    Deviations:
        `eps` stands where Adam has it, not where `torch.optim.SparseAdam` has it.

    Relations:
        If every step touches every row it is `torch.optim.Adam`.
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
    ) -> None:
        if not lr > 0:
            raise ConfigError(f"`lr` must be positive, got {lr}.")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "maximize": maximize})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move the rows that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._move(table, group)
        return loss

    def _move(self, table: torch.Tensor, group: dict[str, Any]) -> None:
        grad = table.grad
        if grad is None or not grad.is_sparse:
            raise ConfigError("lazy Adam needs row-sparse gradients, got a dense one.")
        grad = grad.coalesce()
        state = self.state[table]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(table)
            state["exp_avg_sq"] = torch.zeros_like(table)
        state["step"] += 1
        step = float(state["step"])
        first, second = group["betas"]
        adam_rows(
            table,
            state["exp_avg"],
            state["exp_avg_sq"],
            grad.indices()[0],
            grad.values(),
            betas=(first, second),
            rate=(-1 if group["maximize"] else 1) * group["lr"] / (1 - first**step),
            root_scale=1 / math.sqrt(1 - second**step),
            eps=group["eps"],
        )


def is_lazy(name: OptimizerName, *tables: torch.Tensor) -> bool:
    """Whether tables are left to lazy Adam; `auto` never is on a GPU, whose memory is quick enough.

    >>> is_lazy("auto", torch.empty(15_000, 1)), is_lazy("auto", torch.empty(600_000, 1))
    (False, True)
    """
    if name != "auto":
        return name == "lazy_adam"
    return sum(map(len, tables)) >= LAZY_ROWS and all(table.is_cpu for table in tables)


def make_adam(
    parameters: Iterable[nn.Parameter], *, lr: float, lazy: bool, maximize: bool = False
) -> torch.optim.Optimizer:
    """Make lazy Adam, or torch's Adam in its fused form."""
    if lazy:
        return LazyAdam(parameters, lr=lr, maximize=maximize)
    return torch.optim.Adam(parameters, lr=lr, fused=True, maximize=maximize)
