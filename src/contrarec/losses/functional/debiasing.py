"""Losses that take popularity out of what a model learns."""

import torch
import torch.nn.functional as F

from contrarec.errors import ConfigError
from contrarec.losses.functional.checks import check_scores
from contrarec.losses.functional.pairwise import bpr

_TINY = 1e-10  # of a product of variances, which may be 0


def macr(
    pos: torch.Tensor,
    neg: torch.Tensor,
    user_logit: torch.Tensor,
    pos_logit: torch.Tensor,
    neg_logit: torch.Tensor,
    *,
    alpha: float,
    beta: float,
) -> torch.Tensor:
    """Clicks explained by a match, by the item alone and by the user alone, all at once.

    `BCE(s·sigmoid(i)·sigmoid(u)) + α·BCE(i) + β·BCE(u)`, where `BCE` is `−log sigmoid` of the
    positive plus the mean over the negatives of `−log(1 − sigmoid)`; u is both.

    Args:
        pos: `[B]` scores s of the positives (dot products).
        neg: `[B, N]` scores of the sampled negatives; N is 1 in the authors' code.
        user_logit: `[B]` u, what the user alone says.
        pos_logit: `[B]` i of the positives, what the item alone says.
        neg_logit: `[B, N]` i of the negatives.
        alpha: weight of the item's part; 1e-3 in the paper.
        beta: weight of the user's part; 1e-3 in the paper.

    Returns:
        `[B]` losses.

    Raises:
        ConfigError: the shapes do not fit.

    Source:
        MACR (Wei et al., KDD 2021, arXiv 2010.15363), eq. 6 to 8.

    Deviations:
        Any number of negatives: their mean. A published port multiplies scores `[B]` with heads
        `[B, 1]`, so that every score meets every head; here a row is a row.

    Relations:
        α = β = 0 and heads of +∞ leave the binary cross-entropy of the scores.

    >>> zero, zeros = torch.zeros(1), torch.zeros(1, 2)
    >>> macr(zero, zeros, zero, zero, zeros, alpha=0.5, beta=0.5) / torch.tensor(2.0).log()
    tensor([4.])
    """
    check_scores(pos, neg)
    check_scores(pos_logit, neg_logit)
    if not user_logit.shape == pos_logit.shape == pos.shape or neg_logit.shape != neg.shape:
        raise ConfigError(
            "the logits must have the shapes of the scores, got "
            f"{tuple(user_logit.shape)}, {tuple(pos_logit.shape)} and {tuple(neg_logit.shape)}."
        )
    user = torch.sigmoid(user_logit)
    fused_pos = pos * torch.sigmoid(pos_logit) * user
    fused_neg = neg * torch.sigmoid(neg_logit) * user[:, None]
    by_match = F.softplus(-fused_pos) + F.softplus(fused_neg).mean(1)
    by_item = F.softplus(-pos_logit) + F.softplus(neg_logit).mean(1)
    by_user = F.softplus(-user_logit) + F.softplus(user_logit)
    return by_match + alpha * by_item + beta * by_user


def squared_correlation(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Square of Pearson's correlation of two samples `[B]`; 0 where one of them does not vary.

    No root is taken, so that the gradient stays finite there.

    >>> squared_correlation(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 0.0, -1.0]))
    tensor(1.)
    """
    x, y = x - x.mean(), y - y.mean()
    return (x * y).sum() ** 2 / (x.square().sum() * y.square().sum() + _TINY)


def sam_reg(
    pos: torch.Tensor, neg: torch.Tensor, popularity: torch.Tensor, *, weight: float
) -> torch.Tensor:
    """BPR whose success must not go along with the popularity of the positive.

    `(1 − w)·mean BPR + w·corr(popularity, mean_j sigmoid(pos − neg_j))²` over the batch.

    Args:
        pos: `[B]` scores of the positives (dot products).
        neg: `[B, N]` scores of the sampled negatives; N is 1 in the paper.
        popularity: `[B]` of the positives, at most 1.
        weight: w, between 0 and 1; .05 in the authors' ports, .1 to .9 in the paper.

    Returns:
        `[]`, the loss of the batch: a correlation has no rows.

    Raises:
        ConfigError: the shapes do not fit.

    Source:
        The regulariser "Reg" of Boratto et al., "Connecting user and item perspectives in
        popularity debiasing for collaborative recommendation", IPM 58(1), 2021.

    Deviations:
        Any number of negatives: the mean of their sigmoids. L2 is the training's, outside of
        (1 − w). The paper's balanced sampling of pairs ("Sam") is not part of it, as in the ports.
        A small constant stands under the product of the variances instead of under its root, whose
        gradient is infinite for a batch of one.

    Relations:
        w = 0 is BPR, and so is 1 − w times it wherever all positives are equally popular.

    >>> sam_reg(torch.zeros(2), torch.zeros(2, 1), torch.tensor([0.1, 1.0]), weight=0.5)
    tensor(0.3466)
    """
    if popularity.shape != pos.shape:
        raise ConfigError(
            "`popularity` must be [B] like `pos`, got "
            f"{tuple(popularity.shape)} and {tuple(pos.shape)}."
        )
    ranking = bpr(pos, neg).mean()
    success = torch.sigmoid(pos[:, None] - neg).mean(1)  # [B]
    return (1 - weight) * ranking + weight * squared_correlation(popularity, success)


def self_unbiased(pos: torch.Tensor, neg: torch.Tensor, *, floor: float) -> torch.Tensor:
    """Squared error of relevance, where a click counts for those that exposure kept from showing.

    `(1 − y)²/ω + (1 − 1/ω)·y² + mean_j y_j²`, `y = sigmoid(score)` and `ω = max(y, floor)` as a
    constant: the model's own prediction is the propensity of the click.

    Args:
        pos: `[B]` scores of the positives (dot products).
        neg: `[B, N]` scores of the sampled negatives.
        floor: smallest propensity, in (0, 1]; .1 in the authors' code.

    Returns:
        `[B]` losses.

    Raises:
        ConfigError: the shapes do not fit, or `floor` is out of range.

    Source:
        The self-inverse propensity weighting of BISER (Lee et al., SIGIR 2022, arXiv 2207.12660).

    Deviations:
        Sampled negatives, as many as positives in weight, instead of every item that a user has
        not seen. The authors' code lets the gradient pass through ω; here it is a constant.

    Relations:
        floor = 1 is the plain squared error of the positive and the mean one of the negatives.

    >>> self_unbiased(torch.zeros(1), torch.zeros(1, 3), floor=0.1)
    tensor([0.5000])
    """
    check_scores(pos, neg)
    if not 0 < floor <= 1:
        raise ConfigError(f"`floor` must be in (0, 1], got {floor}.")
    y = torch.sigmoid(pos)
    inverse = 1 / y.detach().clamp(min=floor)
    clicked = inverse * (1 - y).square() + (1 - inverse) * y.square()
    return clicked + torch.sigmoid(neg).square().mean(1)
