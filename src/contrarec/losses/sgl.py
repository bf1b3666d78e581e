"""SGL (Wu et al., SIGIR 2021): BPR, and two graphs with other edges dropped that must agree."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from contrarec.config import require, require_not_negative, require_positive, settle
from contrarec.kernels.propagate import BipartiteGraph, drop_edges
from contrarec.losses import functional
from contrarec.losses.base import Loss, Tables
from contrarec.losses.views import Draws, GraphEncoder, contrast_views, made


@dataclass(frozen=True, kw_only=True)
class SGLConfig:
    """SGL with edge dropout."""

    view_weight: float = 0.1
    """Weight of the contrast; published .1 to .2, less for small data."""
    view_tau: float = 0.2
    """Temperature of the contrast; published .15 to .2."""
    edge_drop: float = 0.1
    """Share of the edges that a view does without; published .1."""

    def __post_init__(self) -> None:
        settle(self)
        require_not_negative(self, "view_weight")
        require_positive(self, "view_tau")
        require(0 <= self.edge_drop < 1, "edge_drop", "be in [0, 1)", self.edge_drop)


class SGL(Loss):
    """SGL: `BPR + λ·(InfoNCE of the users + InfoNCE of the items)` between edge-dropped views.

    Each view is LightGCN over a graph without a share of its edges, drawn anew for every epoch; an
    edge is dropped in both directions, and degrees are those of the edges that are left. Scores
    come from the whole graph.

    Args:
        config: hyper-parameters; the defaults if None.
        rng: seed or generator of the dropped edges; None draws a seed.
        about: what else a loss may be told.

    Source:
        Wu et al., "Self-supervised Graph Learning for Recommendation", SIGIR 2021
        (arXiv 2010.10783), with edge dropout ("SGL-ED"). Edges are drawn, and degrees counted
        anew, as in the authors' code.

    Deviations:
        The contrast is among the batch's distinct users and items, as in the SELFRec library, and
        not among all users and items. Means over the batch, not sums.

    Relations:
        λ = 0 is BPR on LightGCN. Without dropped edges both views are the output itself.
    """

    config_class: ClassVar[type[SGLConfig]] = SGLConfig
    similarity = "dot"

    def __init__(self, config: SGLConfig | None = None, **about: Any) -> None:
        super().__init__(config, **about)
        self.draws = Draws(about.get("rng"))
        self._graphs: tuple[int, list[BipartiteGraph]] | None = None
        self._views: list[Tables] | None = None

    def begin_epoch(self, epoch: int, outputs: Tables) -> None:  # noqa: ARG002
        """Let the next step draw other edges."""
        self.draws.advance()

    def propagate(self, encoder: GraphEncoder) -> Tables:  # type: ignore[override]
        """Return the backbone's output, and keep the two views of it."""
        drawn = int(self.draws.count)
        if self._graphs is None or self._graphs[0] != drawn:  # so a resumed run finds them again
            generator = self.draws.generator()
            graphs = [_thin(encoder.graph, self.config.edge_drop, generator) for _ in range(2)]
            self._graphs = drawn, graphs
        self._views = [encoder(graph=graph) for graph in self._graphs[1]]
        return encoder()

    def batch_loss(self, pos: torch.Tensor, neg: torch.Tensor, **context: Any) -> torch.Tensor:
        """Return BPR plus the weighted contrast of the batch's users and items in both views."""
        views = contrast_views(made(self._views, self), tau=self.config.view_tau, **context)
        ranking = functional.bpr(pos, neg).mean()
        return torch.add(ranking, views, alpha=self.config.view_weight)


def _thin(graph: BipartiteGraph, drop: float, generator: torch.Generator) -> BipartiteGraph:
    """Drop a share of the edges, rounded up, so that as many stay as in the authors' code."""
    n_edges = len(graph.user_items)
    order = torch.randperm(n_edges, generator=generator, device=generator.device)
    return drop_edges(graph, order < int(n_edges * (1 - drop)))
