"""Views of a graph backbone, and what the losses that contrast them share.

Such a loss makes its views in `propagate`, where it meets the backbone, and keeps them for the
`batch_loss` of the same step.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import nn

from contrarec.errors import ConfigError
from contrarec.kernels.draws import stream_key
from contrarec.kernels.propagate import BipartiteGraph
from contrarec.losses.base import Encoder, Rng, Tables, generator_of
from contrarec.losses.functional import contrast


class GraphEncoder(Encoder, Protocol):
    """What a loss of views sees of LightGCN."""

    n_layers: int

    @property
    def graph(self) -> BipartiteGraph:
        """The normalised adjacency."""

    def __call__(self, tables: Tables | None = None, graph: BipartiteGraph | None = None) -> Tables:
        """Return the output, with another layer 0 or over another graph if given."""

    def layers(
        self,
        n_layers: int | None = None,
        perturb: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> list[Tables]:
        """Return the layers one by one, those behind layer 0 perturbed."""

    def mean(self, layers: Sequence[Tables]) -> Tables:
        """Return the output from the layers."""


class Draws(nn.Module):
    """Random draws that a resumed run repeats: a function of a seed and a count, both buffers.

    Args:
        rng: gives the seed.
    """

    seed: torch.Tensor
    count: torch.Tensor

    def __init__(self, rng: Rng) -> None:
        super().__init__()
        self.register_buffer("seed", torch.randint(2**62, (), generator=generator_of(rng)))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def advance(self) -> None:
        """Go on to other draws."""
        self.count += 1

    def key(self) -> int:
        """Return the seed of the present draws."""
        return stream_key(int(self.seed), int(self.count))

    def generator(self) -> torch.Generator:
        """Return a generator of the present draws, on the buffers' device."""
        return torch.Generator(self.seed.device).manual_seed(self.key())


def signed_noise(x: torch.Tensor, eps: float, generator: torch.Generator) -> torch.Tensor:
    """Return `x + ε · sign(x) · n` with `n` a random unit vector of the positive orthant per row.

    Args:
        x: `[n, dim]`.
        eps: length of the noise.
        generator: on the device of `x`.
    """
    noise = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    return x + eps * x.detach().sign() * F.normalize(noise)


def made(views: Any, loss: nn.Module) -> Any:
    """Return the views of a step.

    Raises:
        ConfigError: there are none.
    """
    if views is None:
        raise ConfigError(
            f"{type(loss).__name__} contrasts views of a graph backbone: `propagate(backbone)` "
            "must come before the loss of a step."
        )
    return views


def contrast_views(
    views: Sequence[Tables],
    *,
    users: torch.Tensor,
    pos_items: torch.Tensor,
    tau: float,
    **_: Any,
) -> torch.Tensor:
    """Contrast two views of a batch's users and of its positive items, each taken once: `[]`.

    Args:
        views: two, each of users `[n_users, dim]` and items `[n_items, dim]`.
        users: `[B]`.
        pos_items: `[B]`.
        tau: temperature.

    Returns:
        The mean over the distinct users plus the mean over the distinct items.
    """
    total = users.new_zeros((), dtype=views[0][0].dtype)
    for first, second, batch in zip(*views, (users, pos_items), strict=True):
        rows = torch.unique(batch)
        anchors, positives = first.index_select(0, rows), second.index_select(0, rows)
        total = total + contrast(anchors, positives, tau=tau).mean()
    return total
