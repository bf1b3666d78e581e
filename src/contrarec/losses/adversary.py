"""Hardness: who says how much each sampled negative counts.

A hardness is an `nn.Module` with `forward(users [B], neg_items [B, N], vectors=None, out=None)`
that returns `log p [B, N]`, a log-probability over the negatives of each row. Those that `out` is
True for get no weight, and do not count where a KL budget is kept. The learned ones play the game's
adversary; the fixed ones are its controls. None of them sees scores or positives.
"""

import math
from typing import Any

import torch
from torch import nn

from contrarec.config import OptimizerName
from contrarec.errors import ConfigError
from contrarec.kernels.l2 import add_l2
from contrarec.kernels.scores import sampled_scores
from contrarec.losses.functional import budgeted_log_p
from contrarec.losses.hashing import MASK, mix
from contrarec.optimizers import is_lazy

Vectors = tuple[torch.Tensor, torch.Tensor]
"""The model's ego tables: users `[n_users, dim]` and items `[n_items, dim]`."""


def weigh(
    hardness: nn.Module,
    users: torch.Tensor | None = None,
    neg_items: torch.Tensor | None = None,
    vectors: Vectors | None = None,
    out: torch.Tensor | None = None,
    **_: Any,
) -> torch.Tensor:
    """Return a hardness's `log p [B, N]`; takes the context of a loss and what is left `out`.

    Raises:
        ConfigError: `users` or `neg_items` is missing.
    """
    if users is None or neg_items is None:
        raise ConfigError("`users` and `neg_items` must be given with weighted negatives.")
    log_p: torch.Tensor = hardness(users, neg_items, vectors, out)
    return log_p


def _budgeted(
    g: torch.Tensor, eta: float | None, out: torch.Tensor | None, *, maximum: float = 1.0
) -> torch.Tensor:
    """Return `budgeted_log_p` over what is not left out."""
    return budgeted_log_p(
        g if out is None else g.masked_fill(out, -torch.inf), eta, maximum=maximum
    )


class EmbeddingHardness(nn.Module):
    """`p = softmax_j ⟨a_u, b_j⟩` with tables of its own ("embed").

    Args:
        n_users: rows of the user table.
        n_items: rows of the item table.
        dim: 64 in the paper.
        eta: KL budget per row in nats, or None for none.
        optimizer: which Adam moves the tables; a lazy one needs row-sparse gradients.
        generator: draws the tables (Xavier normal, as in the authors' code).
    """

    def __init__(
        self,
        n_users: int,
        n_items: int,
        dim: int,
        *,
        eta: float | None = None,
        optimizer: OptimizerName = "auto",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.eta, self.optimizer = eta, optimizer
        self.users = nn.Parameter(torch.empty(n_users, dim))
        self.items = nn.Parameter(torch.empty(n_items, dim))
        for table in (self.users, self.items):
            nn.init.xavier_normal_(table, generator=generator)

    @property
    def lazy(self) -> bool:
        """Whether the tables are left to lazy Adam."""
        return is_lazy(self.optimizer, self.users, self.items)

    def forward(
        self,
        users: torch.Tensor,
        neg_items: torch.Tensor,
        vectors: Vectors | None = None,  # noqa: ARG002 - every hardness is called alike
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return `log p [B, N]`; differentiable in the tables."""
        items, index = self.item_rows(neg_items)
        g = sampled_scores(self.users, items, users, index, sparse_grad=self.lazy)
        return _budgeted(g, self.eta, out)

    def add_l2(self, users: torch.Tensor, neg_items: torch.Tensor, weight: float) -> None:
        """Add to the gradients that of `weight/2` times the squared norm of the gathered rows.

        A row counts as often as the batch gathers it.
        """
        items, index = self.item_rows(neg_items)
        add_l2(self.users, users, weight)
        add_l2(items, index, weight)

    def item_rows(self, neg_items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a table that has the rows of some items, and where: here all of them, by index."""
        return self.items, neg_items


class MLPHardness(nn.Module):
    """`p = softmax_j ⟨f(x_u), h(x_j)⟩`, `f, h = relu(linear)` on detached ego tables ("mlp").

    Args:
        in_dim: dimension of the backbone's tables.
        dim: of the hidden product; 4 in the paper.
        eta: KL budget per row in nats, or None for none.
        generator: draws weights and biases, uniform within `±1/√in_dim`.
    """

    def __init__(
        self,
        in_dim: int,
        dim: int = 4,
        *,
        eta: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.eta = eta
        # by way of "meta", since the constructor would draw from the global stream
        self.users = nn.Linear(in_dim, dim, device="meta").to_empty(device="cpu")
        self.items = nn.Linear(in_dim, dim, device="meta").to_empty(device="cpu")
        bound = 1 / math.sqrt(in_dim)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)

    def forward(
        self,
        users: torch.Tensor,
        neg_items: torch.Tensor,
        vectors: Vectors | None = None,
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return `log p [B, N]`; differentiable in the weights, not in `vectors`.

        Raises:
            ConfigError: `vectors` is missing.
        """
        if vectors is None:
            raise ConfigError("`vectors` must be given with MLP hardness, got None.")
        user_table, item_table = vectors[0].detach(), vectors[1].detach()
        # Elsewhere the host would have to wait for the number of distinct items.
        if item_table.device.type == "cpu" and neg_items.numel() < len(item_table):
            items, index = torch.unique(neg_items, return_inverse=True)
            item_table = item_table[items]
        else:
            index = neg_items
        rows = torch.arange(len(users), device=users.device)
        hidden_users = torch.relu(self.users(user_table[users]))  # [B, dim]
        hidden_items = torch.relu(self.items(item_table))
        return _budgeted(sampled_scores(hidden_users, hidden_items, rows, index), self.eta, out)

    @torch.no_grad()
    def add_l2(
        self,
        users: torch.Tensor,  # noqa: ARG002 - as in EmbeddingHardness
        neg_items: torch.Tensor,  # noqa: ARG002
        weight: float,
    ) -> None:
        """Add to the gradients that of `weight/2` times the squared norm of the weights.

        This adversary gathers no rows of its own.
        """
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad.add_(parameter, alpha=weight)


class RandomHardness(nn.Module):
    """A control: Gaussian logits, fixed once and for all for each pair of user and item.

    The logit is a hash of (key, user, item), so it needs no table and is the same in every batch,
    in every process and whatever the order of the draws.

    Args:
        scale: standard deviation of the logits.
        eta: KL that every row is tempered to, or None to leave the logits as drawn.
        generator: draws the key.
    """

    key: torch.Tensor

    def __init__(
        self,
        scale: float = 1.0,
        *,
        eta: float | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.scale, self.eta = scale, eta
        self.register_buffer("key", torch.randint(MASK, (), generator=generator))

    def forward(
        self,
        users: torch.Tensor,
        neg_items: torch.Tensor,
        vectors: Vectors | None = None,  # noqa: ARG002 - every hardness is called alike
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return `log p [B, N]`, float32."""
        row = mix(mix(users.long() & MASK) ^ self.key)
        bits = mix(row[:, None] ^ mix(neg_items.long() & MASK))
        uniform = (bits.double() + 0.5) * (2.0 / (MASK + 1)) - 1.0
        g = (self.scale * math.sqrt(2.0)) * uniform.erfinv().float()
        return _budgeted(g, self.eta, out, maximum=math.inf)


class PopularityHardness(nn.Module):
    """A control: `p_j ∝ count_j^alpha` over the sampled negatives.

    Args:
        item_counts: `[n_items]` training interactions of each item; an item without any counts
            as 1, so that it keeps a weight.
        alpha: exponent; negative values favour rare items.
        eta: KL that every row is tempered to, or None to leave `alpha` in force.
    """

    log_counts: torch.Tensor

    def __init__(
        self, item_counts: torch.Tensor, alpha: float = 1.0, *, eta: float | None = None
    ) -> None:
        super().__init__()
        self.alpha, self.eta = alpha, eta
        self.register_buffer("log_counts", item_counts.clamp(min=1).float().log())

    def forward(
        self,
        users: torch.Tensor,  # noqa: ARG002 - every hardness is called alike
        neg_items: torch.Tensor,
        vectors: Vectors | None = None,  # noqa: ARG002
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return `log p [B, N]`, float32."""
        g = self.alpha * self.log_counts[neg_items]
        return _budgeted(g, self.eta, out, maximum=math.inf)
