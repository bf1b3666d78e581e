"""Softmax losses with another pooling of the positives or the negatives, or another link."""

import math
from collections.abc import Callable
from typing import Literal

import torch

from contrarec.errors import ConfigError, unknown
from contrarec.losses.functional.checks import check_scores, check_tau
from contrarec.losses.functional.softmax import weighted_logits

Activation = Literal["tanh", "atan", "relu", "exp"]

_LEAST = 1e-6  # of an activation: its logarithm and the slope of that stay finite


def bsl(
    pos: torch.Tensor,
    neg: torch.Tensor,
    *,
    users: torch.Tensor,
    tau: float,
    neg_power: float,
    neg_log_weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Bilateral softmax loss: a user's positives in the batch are pooled, too.

    `−log mean_{b: users_b = u} e^{pos_b/τ} + neg_power · log mean_j w_j e^{neg_j/τ}`, u the row's
    user; the second mean is weighted, by `w_j = exp(neg_log_weight_j)`.

    Args:
        pos: `[B]` cosines of the positives.
        neg: `[B, N]` cosines of the sampled negatives; N 500 to 4096 in the authors' runs.
        users: `[B]` user of each row.
        tau: temperature, the divisor of the scores; .08 to .17 in the authors' runs with MF.
        neg_power: the positives' temperature over the negatives'; 1.06 to 1.32 there.
        neg_log_weight: log of the negatives' weights, `[B, N]` or broadcastable to it. `-inf`
            leaves a negative out.

    Returns:
        `[B]` losses; the rows of one user share their first term.

    Raises:
        ConfigError: `tau` or `neg_power` is not positive or the shapes do not fit.

    Source:
        Wu et al., "BSL: Understanding and Improving Softmax Loss for Recommendation", ICDE 2024
        (arXiv 2312.12882), and mode "multi" of the authors' code.

    Deviations:
        The authors' mode "reweight" does not pool positives: it is SL with a factor on the
        negatives' term, and has no name of its own here.

    Relations:
        One row a user and `neg_power` 1: `infonce` without the positive, less `log N`. A shift of
        all scores of a user changes nothing then.

    >>> pos, neg = torch.tensor([0.5, -0.5]), torch.zeros(2, 3)
    >>> bsl(pos, neg, users=torch.tensor([7, 7]), tau=0.5, neg_power=1.1)
    tensor([-0.4338, -0.4338])
    """
    check_tau(tau)
    check_tau(neg_power, "neg_power")
    check_scores(pos, neg)
    if users.shape != pos.shape:
        raise ConfigError(f"`users` must be [B] = {tuple(pos.shape)}, got {tuple(users.shape)}.")
    negatives = weighted_logits(neg, tau, neg_log_weight).logsumexp(1)  # [B]
    negatives = negatives - _log_total(neg, neg_log_weight)
    return neg_power * negatives - _pooled(pos / tau, users)


def _pooled(x: torch.Tensor, users: torch.Tensor) -> torch.Tensor:
    """`log mean e^x` over the rows of each row's user, `[B]`."""
    _, group, sizes = torch.unique(users, return_inverse=True, return_counts=True)
    top = x.detach().new_full((len(sizes),), -math.inf)
    top = top.scatter_reduce(0, group, x.detach(), "amax")
    total = torch.zeros_like(top).index_add(0, group, (x - top[group]).exp())
    pooled: torch.Tensor = (total / sizes).log() + top
    return pooled[group]


def _log_total(neg: torch.Tensor, neg_log_weight: torch.Tensor | None) -> torch.Tensor | float:
    """Logarithm of the sum of the negatives' weights: `[B]`, or one number if they are 1."""
    if neg_log_weight is None:
        return math.log(neg.shape[1])
    return neg_log_weight.expand_as(neg).logsumexp(1)


_LOG_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "tanh": lambda d: (d.tanh() + 1).clamp(min=_LEAST).log(),
    "atan": lambda d: (d.atan() + 1).clamp(min=_LEAST).log(),
    "relu": lambda d: (d + 1).clamp(min=_LEAST).log(),
    "exp": lambda d: d,
}


def psl(
    pos: torch.Tensor,
    neg: torch.Tensor,
    *,
    tau: float,
    activation: Activation,
    neg_log_weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Pairwise softmax loss: a gentler link than the exponential between margin and weight.

    `log Σ_j w_j σ((neg_j − pos)/2)^{1/τ}`, `w_j = exp(neg_log_weight_j)`, with
    `σ(d) = tanh(d) + 1`, `atan(d) + 1` or `relu(d + 1)`: between the step function and `e^d` for
    d in [−1, 1], hence the half of the cosines.

    Args:
        pos: `[B]` cosines of the positives.
        neg: `[B, N]` cosines of the sampled negatives; N 1000 in the paper.
        tau: temperature; .005 to .25 in the paper.
        activation: σ, by name; `exp` is the softmax loss.
        neg_log_weight: log of the negatives' weights, `[B, N]` or broadcastable to it. `-inf`
            leaves a negative out.

    Returns:
        `[B]` losses.

    Raises:
        ConfigError: `tau` is not positive, `activation` is unknown, or the shapes do not fit.

    Source:
        Yang et al., "PSL: Rethinking and Improving Softmax Loss from Pairwise Perspective for
        Recommendation", NeurIPS 2024 (arXiv 2411.00163), and method 1 of the authors' code.

    Deviations:
        σ is at least 1e-6: the authors' logarithm of `relu` is -inf at d = −1, its slope NaN.

    Relations:
        With `exp` it is `infonce` without the positive at twice the τ. A shift of all scores of a
        row changes nothing; nor does a permutation of its negatives.

    >>> psl(torch.tensor([0.5]), torch.tensor([[0.5, -0.5]]), tau=0.5, activation="relu")
    tensor([0.2231])
    """
    check_tau(tau)
    check_scores(pos, neg)
    if activation not in _LOG_ACTIVATIONS:
        raise ConfigError(unknown("activation", activation, _LOG_ACTIVATIONS))
    level = _LOG_ACTIVATIONS[activation]((neg - pos[:, None]) / 2)  # [B, N]
    return weighted_logits(level, tau, neg_log_weight).logsumexp(1)


def hcl(
    pos: torch.Tensor,
    neg: torch.Tensor,
    *,
    tau: float,
    beta: float,
    tau_plus: float,
    neg_log_weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Hard-negative contrastive loss: harder negatives weigh more, less the positives among them.

    `−log( e^{pos/τ} / (e^{pos/τ} + G) )` with
    `G = max( (H − M τ⁺ e^{pos/τ}) / (1 − τ⁺), M e^{−1/τ} )`,
    `H = M · Σ_j w_j e^{(1+β) neg_j/τ} / Σ_j w_j e^{β neg_j/τ}`, `w_j = exp(neg_log_weight_j)` and
    `M = Σ_j w_j`, which is N without weights.

    Args:
        pos: `[B]` cosines of the positives.
        neg: `[B, N]` cosines of the sampled negatives.
        tau: temperature, the divisor of the scores; .5 in the paper.
        beta: how much harder negatives count; .5 to 2 in the paper.
        tau_plus: τ⁺, the share of positives among the sampled; .01 to .1 in the paper.
        neg_log_weight: log of the negatives' weights, `[B, N]` or broadcastable to it. `-inf`
            leaves a negative out.

    Returns:
        `[B]` losses.

    Raises:
        ConfigError: `tau` is not positive, `beta` is negative, `tau_plus` is not in [0, 1), or the
            shapes do not fit.

    Source:
        Robinson et al., "Contrastive Learning with Hard Negative Samples", ICLR 2021
        (arXiv 2010.04592), section 4, and estimator "hard" of the authors' code.

    Deviations:
        Log-sum-exp instead of raw exponentials. As in the authors' code, the gradient passes
        through the weights `e^{β neg_j/τ}`. Where the floor `M e^{−1/τ}` holds, negatives have no
        gradient: it is the least that cosines can add up to.

    Relations:
        β = 0 and τ⁺ = 0 is `infonce` wherever no score is below −1. Permuting negatives changes
        nothing. The floor knows that scores are cosines: a shift of a row changes the loss.

    >>> pos, neg = torch.tensor([1.0]), torch.tensor([[1.0, 1.0, 1.0]])
    >>> hcl(pos, neg, tau=0.1, beta=0.5, tau_plus=0.0), hcl(pos, neg, tau=0.1, beta=2, tau_plus=0.5)
    (tensor([1.3863]), tensor([1.3863]))
    """
    check_tau(tau)
    check_scores(pos, neg)
    if not beta >= 0:
        raise ConfigError(f"`beta` must not be negative, got {beta}.")
    if not 0 <= tau_plus < 1:
        raise ConfigError(f"`tau_plus` must be in [0, 1), got {tau_plus}.")
    log_m = _log_total(neg, neg_log_weight)
    top = weighted_logits(neg, tau / (1 + beta), neg_log_weight).logsumexp(1)
    if beta > 0:
        top = top - weighted_logits(neg, tau / beta, neg_log_weight).logsumexp(1) + log_m
    hard = top - pos / tau  # [B], log H − pos/τ
    floor = log_m - (1 + pos) / tau
    if tau_plus > 0:
        # log of a difference, where it is positive; a nearly empty one must not have a NaN slope
        share = log_m + math.log(tau_plus) - hard
        left = (-share.clamp(max=-1e-6).expm1()).log() - math.log1p(-tau_plus)
        hard = torch.where(share < 0, hard + left, -math.inf)
    return -torch.nn.functional.logsigmoid(-torch.maximum(hard, floor))
