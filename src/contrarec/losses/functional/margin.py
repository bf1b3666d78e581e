"""Losses that stop where a margin is kept."""

import torch

from contrarec.errors import ConfigError
from contrarec.losses.functional.checks import check_scores


def ccl(pos: torch.Tensor, neg: torch.Tensor, *, margin: float, neg_weight: float) -> torch.Tensor:
    """Cosine contrastive loss: positives up to 1, negatives down to a margin.

    `relu(1 − pos) + neg_weight · mean_j relu(neg_j − margin)`

    Args:
        pos: `[B]` cosines of the positives.
        neg: `[B, N]` cosines of the sampled negatives; N 800 to 1500 in the paper.
        margin: below it a negative is left alone; .2 to .9 in the paper.
        neg_weight: weight of the negatives' mean; 150 to 250 in the paper.

    Returns:
        `[B]` losses.

    Raises:
        ConfigError: the shapes do not fit.

    Source:
        Mao et al., "SimpleX: A Simple and Strong Baseline for Collaborative Filtering", CIKM 2021
        (arXiv 2109.12613), eq. 3, and the code of its benchmark.

    Deviations:
        None. The port in AdvInfoNCE's code clamps cosines to [0, 1] and takes margin .4, weight 1.

    Relations:
        `mmcl` with one margin, or with equal ones whose weights add up to this one's.

    >>> ccl(torch.tensor([0.75]), torch.tensor([[0.5, 0.25]]), margin=0.25, neg_weight=2.0)
    tensor([0.5000])
    """
    return mmcl(pos, neg, margins=(margin,), neg_weights=(neg_weight,))


def mmcl(
    pos: torch.Tensor,
    neg: torch.Tensor,
    *,
    margins: tuple[float, ...],
    neg_weights: tuple[float, ...],
) -> torch.Tensor:
    """Multi-margin cosine loss: the closer a negative, the more margins it violates.

    `relu(1 − pos) + Σ_k neg_weights_k · mean_j relu(neg_j − margins_k)`

    Args:
        pos: `[B]` cosines of the positives.
        neg: `[B, N]` cosines of the sampled negatives; N 10 to 800 in the paper.
        margins: below each, a negative is left alone by its term.
        neg_weights: weight of each margin's mean.

    Returns:
        `[B]` losses.

    Raises:
        ConfigError: there is not one weight a margin, or the shapes do not fit.

    Source:
        Ozsoy, "Multi-Margin Cosine Loss: Proposal and Application in Recommender Systems", 2024
        (arXiv 2405.04614).

    Deviations:
        Unconfirmed: the form, from the abstract ("multiple margins and varying weights for negative
        samples") and CCL; the published margins and weights are not known to us.

    Relations:
        One margin is `ccl`. The order of the margins does not matter.

    >>> scores = torch.tensor([0.75]), torch.tensor([[0.5, 0.25]])
    >>> mmcl(*scores, margins=(0.25, 0.0), neg_weights=(2.0, 1.0))
    tensor([0.8750])
    """
    check_scores(pos, neg)
    if len(margins) != len(neg_weights):
        raise ConfigError(
            f"`neg_weights` must be as many as `margins`, got {neg_weights} and {margins}."
        )
    loss = torch.relu(1 - pos)  # [B]
    for margin, weight in zip(margins, neg_weights, strict=True):
        loss = loss + weight * torch.relu(neg - margin).mean(1)
    return loss


def simce(pos: torch.Tensor, neg: torch.Tensor, *, margin: float) -> torch.Tensor:
    """Simplified cross-entropy: the positive keeps a margin from the hardest negative.

    `relu(margin − pos + max_j neg_j)`

    Args:
        pos: `[B]` scores of the positives (dot products).
        neg: `[B, N]` scores of the sampled negatives; N 64 in the paper.
        margin: γ, in the units of the scores; 5 in the authors' code.

    Returns:
        `[B]` losses.

    Raises:
        ConfigError: the shapes do not fit.

    Source:
        Yang et al., "SimCE: Simplifying Cross-Entropy Loss for Collaborative Filtering", 2024
        (arXiv 2406.16170): from an upper bound of the sampled softmax.

    Deviations:
        None.

    Relations:
        A shift of all scores of a row changes nothing. With margin 0 it is the limit of
        `τ · infonce(pos, neg, tau=τ)` for τ → 0.

    >>> simce(torch.tensor([4.0]), torch.tensor([[1.0, -3.0]]), margin=5.0)
    tensor([2.])
    """
    check_scores(pos, neg)
    return torch.relu(margin - pos + neg.amax(1))
