"""Losses from distributionally robust, partial-AUC and variational objectives."""

import torch
import torch.nn.functional as F

from contrarec.errors import ConfigError
from contrarec.losses.functional.checks import check_rows, check_scores, check_tau

_SHARPNESS = 5.0  # of LLPAUC's smooth relu


def drrl(
    pos: torch.Tensor,
    neg: torch.Tensor,
    *,
    margin: torch.Tensor,
    omega: float,
    neg_weight: float,
    eps: float,
) -> torch.Tensor:
    """DrRL: a hinge on the positive, a Rényi-robust mean of the hinges on the negatives.

    `relu(1 − pos) + (mean_j (ε + c·relu(neg_j − m))^{w*})^{1/w*} + m`, `w* = w/(w − 1)`.

    Args:
        pos: `[B]` cosines of the positives.
        neg: `[B, N]` cosines of the sampled negatives; N 64 in the authors' code.
        margin: `[B]`, m: the margin of the row's user. The worst case over a ball of distributions
            is this expression at its minimum over m.
        omega: w, more than 1: order of the divergence; 150 in the authors' code.
        neg_weight: c, grows with the radius of the ball.
        eps: keeps the power differentiable; .1 in the authors' code.

    Returns:
        `[B]` losses.

    Raises:
        ConfigError: `omega` is not above 1, `neg_weight` or `eps` not positive, or the shapes do
            not fit.

    Source:
        Zhang et al., "Advancing Loss Functions in Recommender Systems: A Comparative Study with a
        Rényi Divergence-Based Solution", AAAI 2025 (arXiv 2506.15120), as in the authors' code.

    Deviations:
        None. Unconfirmed: the authors' values of `neg_weight`.

    Relations:
        w → ∞: CCL's `relu(1 − pos) + (c/N) Σ_j relu(neg_j − m)`, plus m + ε.

    >>> drrl(torch.tensor([0.5]), torch.tensor([[0.9, 0.9]]), margin=torch.tensor([0.7]), omega=2.0,
    ...      neg_weight=1.0, eps=0.1)
    tensor([1.5000])
    """
    check_scores(pos, neg)
    check_rows("margin", margin, pos)
    if not omega > 1:
        raise ConfigError(f"`omega` must be more than 1, got {omega}.")
    check_tau(neg_weight, "neg_weight")
    check_tau(eps, "eps")
    power = omega / (omega - 1)
    above = eps + neg_weight * torch.relu(neg - margin[:, None])
    worst = above.pow(power).mean(1).pow(1 / power)
    return torch.relu(1 - pos) + worst + margin


def llpauc(
    pos: torch.Tensor,
    neg: torch.Tensor,
    *,
    a: torch.Tensor,
    b: torch.Tensor,
    g: torch.Tensor,
    s_pos: torch.Tensor,
    s_neg: torch.Tensor,
    theta_a: torch.Tensor,
    theta_b: torch.Tensor,
    alpha: float,
    beta: float,
) -> torch.Tensor:
    """LLPAUC: the area of the ROC curve's lower left, as a min–max over single instances.

    With `y = sigmoid(score)` and `σ(x) = log(1 + e^{5x})/5`:
    `−s⁺ − σ(−(y_i − a)² + 2(1+g)y_i − s⁺)/α + s⁻ + mean_j σ((y_j − b)² + 2(1+g)y_j − s⁻)/β
    − g² + θ_a(a + g) − θ_b(b − 1 − g)`.
    The model, a, b, s⁻, θ_a and θ_b descend; g and s⁺ ascend.

    Args:
        pos: `[B]` scores of the positives (dot products).
        neg: `[B, N]` scores of the sampled negatives.
        a: `[]`, in [0, 1]: where the squares of the positives are centred.
        b: `[]`, in [0, 1]: likewise of the negatives.
        g: `[]`, in [−1, 1].
        s_pos: s⁺ `[]`, in [−1, 4]: threshold of the best α of the positives.
        s_neg: s⁻ `[]`, in [0, 5]: threshold of the best β of the negatives.
        theta_a: `[]`, not negative: multiplier of `g ≥ −a`.
        theta_b: `[]`, not negative: multiplier of `g ≥ b − 1`.
        alpha: share of the positives; .7 to 1.1 in the authors' code.
        beta: share of the negatives; .01 to .1 in the authors' code.

    Returns:
        `[B]`, whose mean is the objective of a batch.

    Raises:
        ConfigError: `alpha` or `beta` is not positive or the shapes do not fit.

    Source:
        Shi et al., "Lower-Left Partial AUC: An Effective and Efficient Optimization Metric for
        Recommendation", WWW 2024; read in the code of DrRL's authors.

    Deviations:
        None.

    Relations:
        It rises in s⁺ while more than the share α of the positives is above it.

    >>> zero, half = torch.tensor(0.0), torch.tensor(0.5)
    >>> llpauc(zero[None], zero[None, None], a=half, b=half, g=zero, s_pos=zero + 1, s_neg=zero + 1,
    ...        theta_a=zero, theta_b=zero, alpha=1.0, beta=0.5)
    tensor([0.1386])
    """
    check_scores(pos, neg)
    check_tau(alpha, "alpha")
    check_tau(beta, "beta")
    y_pos, y_neg = torch.sigmoid(pos), torch.sigmoid(neg)
    gain_pos = -(y_pos - a).square() + 2 * (1 + g) * y_pos
    gain_neg = (y_neg - b).square() + 2 * (1 + g) * y_neg
    best_pos = s_pos + F.softplus(gain_pos - s_pos, beta=_SHARPNESS) / alpha
    best_neg = s_neg + F.softplus(gain_neg - s_neg, beta=_SHARPNESS).mean(1) / beta
    return best_neg - best_pos - g.square() + theta_a * (a + g) - theta_b * (b - 1 - g)


def variational_bpr(
    pos: torch.Tensor, neg: torch.Tensor, *, c_pos: float, c_neg: float
) -> torch.Tensor:
    """Variational BPR: several positives against several negatives, weighted by how likely each is.

    `Σ_k Σ_l a_k b_l softplus(neg_l − pos_k)` with the constants `a = softmax(pos/c⁺)` and
    `b = softmax(−neg/c⁻)`: an unlikely positive and a likely negative count less.

    Args:
        pos: `[B, M]` scores of positives of the row's user (dot products); M 2 in the paper.
        neg: `[B, N]` scores of sampled negatives; N 4 to 20 in the paper.
        c_pos: c⁺, how far the positives' weights are from a choice of the best; 4 to 8.
        c_neg: c⁻, likewise of the negatives.

    Returns:
        `[B]` losses.

    Raises:
        ConfigError: `c_pos` or `c_neg` is not positive or the shapes do not fit.

    Source:
        Liu et al., "Variational Bayesian Personalized Ranking" (arXiv 2503.11067), in the exact
        form of the authors' code.

    Deviations:
        Uniform priors; those of the authors' code (rarity, quality, hardness) are left out.

    Relations:
        c⁺, c⁻ → ∞: the mean of `bpr` over the positives; M = 1, N = 1: `bpr`.

    >>> variational_bpr(torch.zeros(1, 2), torch.zeros(1, 3), c_pos=4.0, c_neg=4.0)
    tensor([0.6931])
    """
    if pos.ndim != 2 or neg.ndim != 2 or len(pos) != len(neg):
        raise ConfigError(
            "`pos` must be [B, M] and `neg` [B, N] with the same B, got "
            f"{tuple(pos.shape)} and {tuple(neg.shape)}."
        )
    check_tau(c_pos, "c_pos")
    check_tau(c_neg, "c_neg")
    pos_weight = (pos.detach() / c_pos).softmax(1)  # [B, M]
    neg_weight = (-neg.detach() / c_neg).softmax(1)  # [B, N]
    against = F.softplus(neg[:, None] - pos[:, :, None])  # [B, M, N]
    return torch.einsum("bm,bn,bmn->b", pos_weight, neg_weight, against)
