"""AdvDrop (Zhang et al., WWW 2024): two complementary graphs, parted by an adversary."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from contrarec.config import require, require_not_negative, require_positive, settle
from contrarec.errors import ConfigError
from contrarec.kernels.propagate import BipartiteGraph, item_half_order
from contrarec.kernels.scores import sampled_scores
from contrarec.losses import functional
from contrarec.losses.base import AdversaryStep, Loss, Tables, generator_of
from contrarec.losses.views import Draws, GraphEncoder, contrast_views, made
from contrarec.optimizers import make_adam


@dataclass(frozen=True, kw_only=True)
class AdvDropConfig:
    """AdvDrop: the loss, its adversary, and when the adversary moves."""

    view_weight: float = 1.0
    """Weight of the contrast; 1 in the authors' code."""
    view_tau: float = 0.1
    """Temperature of the contrast; .1 in the authors' code."""
    mask_dim: int = 10
    """Dimension in which the adversary compares users and items; 10 in the authors' code."""
    keep_prob: float = 0.8
    """What the weights of the kept edges are divided by; .8 in the authors' code."""
    adv_lr: float = 1e-2
    """Adam's step size for the adversary; published 1e-3 to 1e-2."""
    adv_epochs: int = 5
    """Passes over the data each time the adversary is due; published 3 to 15."""
    adv_interval: int = 7
    """Epochs from one turn of the adversary to the next; published 3 to 15."""
    adv_passes: int = 1_000_000
    """No adversarial pass begins after this many."""
    warm_up_epochs: int = 0
    """The adversary rests up to and including this epoch (epochs count from 0)."""
    eta: ClassVar[None] = None

    def __post_init__(self) -> None:
        settle(self)
        require_not_negative(self, "view_weight", "adv_passes", "warm_up_epochs")
        require_positive(self, "view_tau", "mask_dim", "adv_lr", "adv_epochs", "adv_interval")
        require(0 < self.keep_prob <= 1, "keep_prob", "be in (0, 1]", self.keep_prob)


class AdvDrop(Loss):
    """AdvDrop: `BPR_A + BPR_B + λ·(InfoNCE of the users + of the items)` between two graphs.

    Graph A keeps an edge with probability `m`, graph B with `1 − m`, drawn anew for every step:
    `m_ui = sigmoid(⟨Q x_u, K x_i⟩ − mean over the user's items)` of layer 0. The adversary raises
    the InfoNCE by way of Q and K; its gradient through the draws is `arm_gradient`'s. Ranking is
    by the whole graph.

    Args:
        config: hyper-parameters; the defaults if None.
        dim: dimension of the backbone's tables.
        rng: seed or generator of Q, K and the draws; None draws a seed.
        about: what else a loss may be told.

    Raises:
        ConfigError: `dim` is missing.

    Source:
        Zhang et al., "General Debiasing for Graph-based Collaborative Filtering via Adversarial
        Graph Dropout", WWW 2024 (arXiv 2402.13769), and the authors' code.

    Deviations:
        One table for both graphs, and an edge is kept or dropped in both directions: the code has
        two tables, and masks each direction. The contrast is InfoNCE of cosines among the batch's
        distinct users and items: in the code, of sigmoids of dot products, among a hundred each.
        The estimate is of the gradient by the logits, as it is derived: the code takes it for that
        by the probabilities, and draws once for both graphs. When the adversary is due is
        `adversary_due`'s to say.

    Relations:
        An adversary step leaves the model bit-equal, a model step the adversary.
    """

    config_class: ClassVar[type[AdvDropConfig]] = AdvDropConfig
    similarity = "dot"

    def __init__(
        self,
        config: AdvDropConfig | None = None,
        *,
        dim: int | None = None,
        rng: Any = None,
        **about: Any,
    ) -> None:
        super().__init__(config, **about)
        if dim is None:
            raise ConfigError("`dim` must be given to AdvDrop, got None.")
        generator = generator_of(rng)
        self.query, self.key = (
            nn.Parameter(torch.empty(dim, self.config.mask_dim)) for _ in range(2)
        )
        for weight in (self.query, self.key):
            nn.init.xavier_normal_(weight, generator=generator)
        self.draws = Draws(generator)
        self._optimizer: torch.optim.Optimizer | None = None
        self._encode: Callable[..., Tables] | None = None
        self._edges: _Edges | None = None
        self._views: list[Tables] | None = None

    def propagate(self, encoder: GraphEncoder) -> Tables:  # type: ignore[override]
        """Return the output over graph A, and keep it and that over graph B."""
        if self._edges is None:
            self._edges = _Edges(encoder.graph)
        self._encode = encoder.__call__
        tables = encoder.user_table.detach(), encoder.item_table.detach()
        with torch.no_grad():
            kept = self._uniform() < self._logits(tables).sigmoid()
        self._views = self._outputs(kept)
        return self._views[0]

    def batch_loss(self, pos: torch.Tensor, neg: torch.Tensor, **context: Any) -> torch.Tensor:
        """Return BPR over both graphs plus the weighted contrast of the batch's rows in both."""
        first, second = made(self._views, self)
        items = torch.cat([context["pos_items"][:, None], context["neg_items"]], 1)
        scores = sampled_scores(second[0], second[1], context["users"], items)  # [B, 1 + N]
        ranking = functional.bpr(pos, neg).mean()
        ranking = ranking + functional.bpr(scores[:, 0], scores[:, 1:]).mean()
        views = contrast_views((first, second), tau=self.config.view_tau, **context)
        return torch.add(ranking, views, alpha=self.config.view_weight)

    def after_backward(self) -> None:
        """Let the next step draw other edges."""
        self.draws.advance()

    # its adversary

    @property
    def has_adversary(self) -> bool:
        """True: Q and K."""
        return True

    @property
    def adversary_optimizer(self) -> torch.optim.Optimizer:
        """The adversary's Adam."""
        if self._optimizer is None:
            parameters = [self.query, self.key]
            self._optimizer = make_adam(
                parameters, lr=self.config.adv_lr, lazy=False, maximize=True
            )
        return self._optimizer

    def adversary_step(
        self,
        pos: torch.Tensor,  # noqa: ARG002
        neg: torch.Tensor,  # noqa: ARG002
        **context: Any,
    ) -> AdversaryStep:
        """Make one step of Q and K up the contrast of a batch, with the model as a constant."""
        made(self._encode, self)
        optimizer = self.adversary_optimizer
        tables = tuple(table.detach() for table in context["vectors"])

        def value(kept: torch.Tensor) -> torch.Tensor:
            return contrast_views(self._outputs(kept, tables), tau=self.config.view_tau, **context)

        with torch.enable_grad():
            logits = self._logits(tables)  # [2, nnz]
        with torch.no_grad():
            mean, gradient = arm_gradient(value, logits.detach(), self._uniform())
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(logits, gradient)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.draws.advance()
        return AdversaryStep(mean, None)

    def _uniform(self) -> torch.Tensor:
        """Draw the uniform numbers of a step, `[2, nnz]`: for graph A and for graph B."""
        size = 2, len(made(self._edges, self).users)
        return torch.rand(size, generator=self.draws.generator(), device=self.query.device)

    def _logits(self, tables: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return the logits of keeping each edge, `[2, nnz]`: in graph A and in graph B."""
        edges: _Edges = made(self._edges, self)
        users, items = (table.to(self.query) for table in tables)
        q = (users @ self.query).index_select(0, edges.users)  # [nnz, mask_dim]
        k = (items @ self.key).index_select(0, edges.items)
        alike = (q * k).sum(1)
        sums = alike.new_zeros(len(users)).index_add(0, edges.users, alike)
        logits = alike - (sums / edges.degrees).index_select(0, edges.users)
        return torch.stack([logits, -logits])

    def _outputs(
        self, kept: torch.Tensor, tables: tuple[torch.Tensor, ...] | None = None
    ) -> list[Tables]:
        """Return the outputs over the graphs of the kept edges, `[2, nnz]`."""
        edges, encode = made(self._edges, self), made(self._encode, self)
        return [encode(tables, edges.thinned(own / self.config.keep_prob)) for own in kept]


class _Edges:
    """A graph's edges, each named by its place in the user half."""

    def __init__(self, graph: BipartiteGraph) -> None:
        self.graph, self.order = graph, item_half_order(graph)
        degrees = graph.user_indptr.diff()
        self.users = torch.arange(len(degrees), device=degrees.device).repeat_interleave(degrees)
        self.items = graph.user_items.long()
        self.degrees = degrees.clamp(min=1)

    def thinned(self, factor: torch.Tensor) -> BipartiteGraph:
        """Return the graph with weights times a factor `[nnz]`, in both directions."""
        return self.graph._replace(
            user_weights=self.graph.user_weights * factor,
            item_weights=self.graph.item_weights * factor[self.order],
        )


def arm_gradient(
    value: Callable[[torch.Tensor], torch.Tensor], logits: torch.Tensor, uniform: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimate the mean of `value(b)`, `b ~ Bernoulli(sigmoid(logits))`, and its gradient.

    `(f(1[u > sigmoid(−φ)]) − f(1[u < sigmoid(φ)]))·(u − ½)`, without bias.

    Args:
        value: f, of a mask in the shape of the logits; `[]`.
        logits: φ.
        uniform: u, independent and uniform in [0, 1), in the shape of the logits.

    Returns:
        The mean of the two values, and the gradient by the logits.

    Source:
        Yin and Zhou, "ARM: Augment-REINFORCE-Merge Gradient for Stochastic Binary Networks", ICLR
        2019 (arXiv 1807.11143), theorem 1.

    >>> arm_gradient(lambda mask: mask.float().sum(), torch.zeros(1), torch.tensor([0.9]))
    (tensor(0.5000), tensor([0.4000]))
    """
    first = value(uniform > (-logits).sigmoid())
    second = value(uniform < logits.sigmoid())
    return (first + second) / 2, (first - second) * (uniform - 0.5)
