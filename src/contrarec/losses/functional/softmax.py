"""Softmax losses, and the distributions over negatives that weigh them."""

import math

import torch
import torch.nn.functional as F

from contrarec.errors import ConfigError
from contrarec.kernels.budget import budget_multiplier
from contrarec.losses.functional.checks import check_scores, check_tau

_MAX_LOG = 80.0  # exp(80) is finite in float32, with room for a factor
_MIN_LOG_P = -1e4  # exp(-1e4) is 0 in every type; keeps 0·log 0 at 0


def infonce(
    pos: torch.Tensor,
    neg: torch.Tensor,
    *,
    tau: float,
    neg_log_weight: torch.Tensor | None = None,
    include_positive: bool = True,
) -> torch.Tensor:
    """InfoNCE with weighted negatives: the loss of AdvInfoNCE and of every control beside it.

    `−log( e^{pos/τ} / (e^{pos/τ} + Σ_j w_j e^{neg_j/τ}) )`, `w_j = exp(neg_log_weight_j)`,
    computed as `softplus(logsumexp_j(neg_j/τ + log w_j) − pos/τ)`.

    Args:
        pos: `[B]` scores of the positives (cosines, in the paper).
        neg: `[B, N]` scores of the sampled negatives; N 64 or 128 in the paper.
        tau: temperature, the divisor of the scores; .09 to 2 in the paper.
        neg_log_weight: log of the negatives' weights, `[B, N]` or broadcastable to it. AdvInfoNCE:
            `log k_neg + log N + log p`. `-inf` leaves a negative out. None weighs each with 1.
        include_positive: False leaves the positive out of the denominator ("SL"), which is
            `log Σ_j w_j e^{(neg_j − pos)/τ}`.

    Returns:
        `[B]` losses.

    Raises:
        ConfigError: `tau` is not positive or the shapes do not fit.

    Source:
        van den Oord et al. 2018, eq. 4; with weights `e^{δ_j}`: Zhang et al., NeurIPS 2023
        (AdvInfoNCE, arXiv 2310.18700); without the positive: the softmax loss as written in BSL
        (Wu et al., ICDE 2024) and PSL (Yang et al., NeurIPS 2024).

    Deviations:
        Mathematically none. The authors' code exponentiates the scores without log-sum-exp and
        overflows at small τ; its AdvInfoNCE has a factor `k_neg` (64 by default) that the paper's
        formula does not show, here part of `neg_log_weight`.

    Relations:
        A shift of all scores of a row changes nothing; nor does a permutation of its negatives.
        A constant `neg_log_weight` of `log c` is a shift of every negative by `τ·log c`.
        Weights `N·p` with uniform p are no weights. N = 1, τ = 1 is BPR.

    >>> infonce(torch.tensor([1.0]), torch.tensor([[1.0, 1.0, 1.0]]), tau=0.1)
    tensor([1.3863])
    """
    check_tau(tau)
    check_scores(pos, neg)
    margin = weighted_logits(neg, tau, neg_log_weight).logsumexp(1) - pos / tau  # [B]
    return -F.logsigmoid(-margin) if include_positive else margin


def weighted_logits(
    neg: torch.Tensor, tau: float, neg_log_weight: torch.Tensor | None
) -> torch.Tensor:
    """Return `neg/τ + neg_log_weight`, in one fused multiply-add."""
    return neg / tau if neg_log_weight is None else torch.add(neg_log_weight, neg, alpha=1 / tau)


def kl_to_uniform(log_p: torch.Tensor, left_out: torch.Tensor | None = None) -> torch.Tensor:
    """Kullback–Leibler divergence of each row's distribution from the uniform one.

    `Σ_j p_j log(N p_j)`, evaluated as the sum of the non-negative terms
    `(1/N)(e^d d − e^d + 1)` with `d = log(N p_j)`: near uniform the plain sum would drown in
    rounding, and the adversary stays near uniform.

    Args:
        log_p: `[B, N]` log-probabilities; `-inf` is allowed.
        left_out: `[B, N]`, True where an entry cannot have weight: it does not count among the
            row's N, over which the uniform distribution is spread.

    Returns:
        `[B]` nats, between 0 and log N.

    Source:
        AdvInfoNCE (arXiv 2310.18700): what bounds its set `C(η)` of admissible hardness.

    Relations:
        0 for uniform p, log N for all weight on one entry.

    >>> kl_to_uniform(torch.tensor([[0.5, 0.5], [1.0, 0.0]]).log())
    tensor([0.0000, 0.6931])
    """
    log_p = log_p.clamp(min=_MIN_LOG_P)
    if left_out is None:
        d = log_p + math.log(log_p.shape[1])
        return (d.exp() * d - d.expm1()).mean(1)
    n = (~left_out).sum(1).to(log_p.dtype)
    d = log_p + n.log()[:, None]
    return (d.exp() * d - d.expm1()).masked_fill(left_out, 0.0).sum(1) / n


def budgeted_log_p(g: torch.Tensor, eta: float | None, *, maximum: float = 1.0) -> torch.Tensor:
    """Log-softmax of logits, tempered so that the distribution keeps to a KL budget.

    `log softmax(β·g)` with the largest β ≤ `maximum` for which `KL(p ‖ uniform) ≤ eta`.
    β is a constant for the gradient.

    Args:
        g: `[B, N]` logits; entries of `-inf` get no weight and do not count among the row's N.
        eta: budget in nats; None for no budget (β = 1).
        maximum: bound of β; `inf` spends the budget exactly wherever the row can.

    Returns:
        `[B, N]` log-probabilities.

    Raises:
        ConfigError: `eta` or `maximum` is not positive.

    >>> log_p = budgeted_log_p(torch.tensor([[0.0, 1.0, 9.0]]), 0.2)
    >>> kl_to_uniform(log_p)
    tensor([0.2000])
    """
    if eta is None:
        return g.log_softmax(1)
    beta = budget_multiplier(g, eta, maximum=maximum)
    if maximum > 1:  # a large β must multiply differences: those of rounded levels would be noise
        g = g - g.amax(1, keepdim=True)
    return (beta[:, None] * g).log_softmax(1)


def closed_form_log_p(
    neg: torch.Tensor, *, tau: float, lam: float = 1.0, eta: float | None = None
) -> torch.Tensor:
    """The adversary's best answer to given scores, without tables or training.

    With a penalty, the maximiser of `Σ_j p_j e^{neg_j/τ} − λ·KL(p ‖ uniform)`:
    `p_j ∝ exp(e^{neg_j/τ} / λ)`. With a budget, the maximiser of `Σ_j p_j e^{neg_j/τ}` over
    `KL(p ‖ uniform) ≤ η`: `p_j ∝ exp(β e^{neg_j/τ})` with the β that spends the budget; `lam` then
    has no part in it.

    Args:
        neg: `[B, N]` scores of the sampled negatives; those of `-inf` get no weight and do not
            count among the row's N.
        tau: temperature of the loss.
        lam: weight of the penalty; the published method has no closed form.
        eta: budget per row in nats, or None for the penalty. A row that cannot spend it puts all
            weight on its maximal entries.

    Returns:
        `[B, N]` log-probabilities, finite however small τ is.

    Raises:
        ConfigError: `tau`, `lam` or `eta` is not positive.

    Source:
        Not in the paper: its inner maximum over a KL ball, read as distributionally robust
        optimisation.

    Relations:
        λ → ∞ or η → 0: uniform. A row-wise shift of the scores leaves the budget form unchanged.
        No p in the KL ball gives a larger loss than the budget form.

    >>> closed_form_log_p(torch.tensor([[0.0, 0.0]]), tau=0.1).exp()
    tensor([[0.5000, 0.5000]])
    """
    check_tau(tau)
    if not lam > 0:
        raise ConfigError(f"`lam` must be positive, got {lam}.")
    top = neg.amax(1, keepdim=True)
    # e^x/λ less its row maximum: exact where the terms nearly agree, and never above 0
    below = torch.expm1((neg - top) / tau).masked_fill(neg == -torch.inf, -torch.inf)
    if eta is not None:  # β absorbs the row's scale
        return budgeted_log_p(below, eta, maximum=math.inf)
    # beyond the clamp, whatever lies below the maximum has no weight left in any case
    return ((top / tau - math.log(lam)).clamp(max=_MAX_LOG).exp() * below).log_softmax(1)
