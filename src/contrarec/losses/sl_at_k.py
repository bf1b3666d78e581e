"""SL@K: the softmax loss of what is, or nearly is, among a user's K best."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from contrarec.config import require_positive, settle
from contrarec.kernels.scores import sampled_scores
from contrarec.losses import functional
from contrarec.losses.base import History, Loss, Tables, generator_of, take
from contrarec.losses.histories import Histories

_CHUNK = 2**21  # scores that are held at a time


@dataclass(frozen=True, kw_only=True)
class SLAtKConfig:
    """SL@K: the softmax loss under a weight, and how the weight's threshold is estimated."""

    tau: float = 0.2
    """Temperature of the softmax."""
    tau_w: float = 1.0
    """Temperature of the weight; published .5 to 3."""
    k: int = 20
    """Cutoff of the metric that the loss stands for."""
    threshold_interval: int = 5
    """Epochs from one estimate of the thresholds to the next; published 5 and 20."""
    threshold_samples: int = 1000
    """Items outside a user's history that an estimate draws."""

    def __post_init__(self) -> None:
        settle(self)
        require_positive(self, "tau", "tau_w", "k", "threshold_interval", "threshold_samples")


class SLAtK(Loss):
    """SL@K: the softmax loss, weighted by whether the positive is among the user's K best.

    The threshold β_u is the K-th largest cosine among the user's history and sampled items outside
    it, estimated before every `threshold_interval`-th epoch, from the first on.

    Args:
        config: hyper-parameters; the defaults if None.
        n_items: size of the catalogue.
        history: the training interactions.
        rng: seed or generator that draws the key of the estimates' samples.

    Raises:
        ConfigError: `history` or `n_items` is missing.

    Source:
        Yang et al., "Breaking the Top-K Barrier: Advancing Top-K Ranking Metrics Optimization in
        Recommender Systems", KDD 2025.

    Deviations:
        The authors' code estimates during every `threshold_interval`-th epoch, user by user as the
        batches come (thresholds are 0 before the first), and cuts long histories.

    Relations:
        τ_w → ∞: half of InfoNCE without the positive.
    """

    config_class: ClassVar[type[SLAtKConfig]] = SLAtKConfig
    weighs_negatives = True
    threshold: torch.Tensor

    def __init__(
        self,
        config: SLAtKConfig | None = None,
        *,
        history: History | None = None,
        n_items: int | None = None,
        **about: Any,
    ) -> None:
        super().__init__(config, history=history, n_items=n_items, **about)
        self.histories = Histories(history, n_items, generator_of(about.get("rng")))
        self.register_buffer("threshold", torch.zeros(len(self.histories.counts)))

    def begin_epoch(self, epoch: int, outputs: Tables) -> None:
        """Estimate the thresholds anew if it is time."""
        config = self.config
        if epoch % config.threshold_interval == 0:
            estimate = kth_scores(
                self.histories, outputs, config.k, samples=config.threshold_samples, stream=epoch
            )
            self.threshold.copy_(estimate)

    def per_row(
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,
        *,
        neg_log_weight: torch.Tensor | None = None,
        **context: Any,
    ) -> torch.Tensor:
        """Return the losses `[B]`."""
        (users,) = take(context, "users")
        return functional.sl_at_k(
            pos,
            neg,
            threshold=self.threshold[users],
            tau=self.config.tau,
            tau_w=self.config.tau_w,
            neg_log_weight=neg_log_weight,
        )


@torch.no_grad()
def kth_scores(
    histories: Histories, vectors: Tables, k: int, *, samples: int, stream: int
) -> torch.Tensor:
    """Return each user's K-th largest cosine among its history and sampled items outside it.

    Args:
        histories: the training interactions.
        vectors: users and items.
        k: which; the smallest score of a user with fewer.
        samples: items drawn outside each history.
        stream: number of the draws.

    Returns:
        `[n_users]`
    """
    positives, gaps = histories.scores(vectors, cosine=True), histories.gaps()
    owners, everyone = histories.users, torch.arange(len(histories.counts), device=gaps.device)
    found = []
    for users in torch.split(everyone, max(1, _CHUNK // samples)):
        drawn = histories.negatives(users, samples, stream, gaps)
        scores = sampled_scores(*vectors, users, drawn, cosine=True)
        best = scores.topk(min(k, samples)).values  # [U, k]
        first, last = histories.indptr[users[0]], histories.indptr[users[-1] + 1]
        # both kinds as (score, user), by user and within a user from the largest down
        pool = torch.cat([positives[first:last], best.flatten()])
        owner = torch.cat([owners[first:last], users.repeat_interleave(best.shape[1])])
        order = pool.argsort(descending=True, stable=True)
        order = order[owner[order].argsort(stable=True)]
        size = histories.counts[users] + best.shape[1]
        found.append(pool[order[size.cumsum(0) - size + size.clamp(max=k) - 1]])
    return torch.cat(found)
