"""Softmax losses whose margins, temperatures or weights adapt to users and items."""

import math

import torch

from contrarec.losses.functional.checks import check_rows, check_scores, check_tau
from contrarec.losses.functional.softmax import infonce

_EDGE = 1 - 1e-7  # cosines beyond it have no finite derivative of their angle


def bc(
    pos: torch.Tensor,
    neg: torch.Tensor,
    *,
    margin: torch.Tensor,
    tau: float,
    neg_log_weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """InfoNCE with a margin on the positive's angle: the main term of BC loss.

    `−log( e^{c/τ} / (e^{c/τ} + Σ_j w_j e^{neg_j/τ}) )`, `c = cos(min(arccos(pos) + margin, π))`.

    Args:
        pos: `[B]` cosines of the positives.
        neg: `[B, N]` cosines of the sampled negatives; N 128 in the paper.
        margin: `[B]` radians, not negative: large where popularity alone does not foretell the
            interaction.
        tau: temperature; .07 in the authors' code.
        neg_log_weight: as in `infonce`.

    Returns:
        `[B]` losses.

    Raises:
        ConfigError: `tau` is not positive or the shapes do not fit.

    Source:
        Zhang et al., "Incorporating Bias-aware Margins into Contrastive Loss for Collaborative
        Filtering", NeurIPS 2022.

    Deviations:
        None from the paper, which ends the margin at π; in the authors' code the angle may pass π,
        and then a positive is pushed away.

    Relations:
        With a margin of 0 it is `infonce`. It grows with the margin.

    >>> pos, neg = torch.tensor([0.5]), torch.tensor([[0.0]])  # 60 and 90 degrees
    >>> bc(pos, neg, margin=torch.tensor([math.pi / 6]), tau=0.1)
    tensor([0.6931])
    """
    check_scores(pos, neg)
    check_rows("margin", margin, pos)
    angle = torch.arccos(pos.clamp(-_EDGE, _EDGE)) + margin
    return infonce(torch.cos(angle.clamp(max=math.pi)), neg, tau=tau, neg_log_weight=neg_log_weight)


def adap_tau(
    pos: torch.Tensor,
    neg: torch.Tensor,
    *,
    pos_scale: torch.Tensor | float,
    neg_scale: torch.Tensor,
    neg_log_weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Softmax loss with a temperature for each user: Adap-τ.

    `log Σ_j w_j e^{neg_scale·neg_j} − pos_scale·pos`

    Args:
        pos: `[B]` cosines of the positives.
        neg: `[B, N]` cosines of the sampled negatives; N 1024 to 2048 in the paper.
        pos_scale: inverse of the common temperature.
        neg_scale: `[B]` inverse temperatures of the rows' users, from `user_scales`.
        neg_log_weight: as in `infonce`.

    Returns:
        `[B]` losses.

    Raises:
        ConfigError: the shapes do not fit.

    Source:
        Chen et al., "Adap-τ: Adaptively Modulating Embedding Magnitude for Recommendation",
        WWW 2023, as in the authors' code.

    Deviations:
        None.

    Relations:
        Equal scales 1/τ: `infonce` at τ without the positive.

    >>> adap_tau(torch.tensor([1.0]), torch.tensor([[0.5]]), pos_scale=2.0,
    ...          neg_scale=torch.tensor([4.0]))
    tensor([0.])
    """
    check_scores(pos, neg)
    check_rows("neg_scale", neg_scale, pos)
    logits = neg_scale[:, None] * neg
    if neg_log_weight is not None:
        logits = logits + neg_log_weight
    return torch.logsumexp(logits, 1) - pos_scale * pos


def user_scales(losses: torch.Tensor, *, common: float, beta: float) -> torch.Tensor:
    """Inverse temperatures of users by how well they are fitted: Adap-τ's superloss.

    `common·exp(−W(max((L_u − mean L)/β, −1/e)))` with Lambert's W: users with a larger loss than
    the mean get a smaller scale, a softer loss; down to W = −1 the others get a larger one.

    Args:
        losses: `[n_users]` losses L at τ = 1.
        common: inverse temperature of a user with the mean loss.
        beta: how much a loss must differ; .25 to 1.5 in the paper.

    Returns:
        `[n_users]`, between 0 and `e·common`.

    Raises:
        ConfigError: `beta` is not positive.

    Source:
        Chen et al., WWW 2023, as in the authors' code ("weight_mean").

    Deviations:
        W is computed, not looked up in a table with steps of 1e-4, and has no largest argument.

    >>> user_scales(torch.tensor([2.0, 2.0]), common=5.0, beta=1.0)
    tensor([5., 5.])
    """
    from scipy.special import lambertw  # here, since few need it and it takes its time

    check_tau(beta, "beta")
    x = ((losses - losses.mean()).double() / beta).clamp(min=-math.exp(-1))
    w = torch.from_numpy(lambertw(x.cpu().numpy()).real).to(losses.device)
    w = w.nan_to_num(nan=-1.0)  # what W(−1/e) is, and scipy has no value for
    return (common * torch.exp(-w)).to(losses.dtype)


def common_scale(
    pos_mean: float, mean: float, *, pairs: float, interactions: float
) -> float | None:
    """Inverse temperature for all users, from how cosines of positives and of all pairs lie apart.

    `log(pairs / (2·interactions)) / (pos_mean − mean)`: Adap-τ's `τ_0`.

    Args:
        pos_mean: mean cosine of the interactions.
        mean: mean cosine of all pairs of a user and an item.
        pairs: number of these pairs.
        interactions: number of interactions.

    Returns:
        The scale; None where it would not be positive: more than half of the pairs are
        interactions, or positives lie no higher than the rest.

    Source:
        Chen et al., WWW 2023, as in the authors' code.

    >>> round(common_scale(0.6, 0.1, pairs=2000, interactions=10), 3)
    9.21
    """
    gap, log_ratio = pos_mean - mean, math.log(pairs / (2 * interactions))
    return log_ratio / gap if gap > 0 and log_ratio > 0 else None


def sl_at_k(
    pos: torch.Tensor,
    neg: torch.Tensor,
    *,
    threshold: torch.Tensor,
    tau: float,
    tau_w: float,
    neg_log_weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """SL@K: the softmax loss, weighted by whether the positive is among the user's K best.

    `sigmoid((pos − threshold)/τ_w) · log Σ_j w_j e^{(neg_j − pos)/τ}`

    Args:
        pos: `[B]` cosines of the positives.
        neg: `[B, N]` cosines of the sampled negatives; N 1000 in the paper.
        threshold: `[B]`, β: about the K-th largest score of the row's user, a constant.
        tau: temperature of the softmax.
        tau_w: temperature of the weight; .5 to 3 in the paper.
        neg_log_weight: as in `infonce`.

    Returns:
        `[B]` losses.

    Raises:
        ConfigError: a temperature is not positive or the shapes do not fit.

    Source:
        Yang et al., "Breaking the Top-K Barrier: Advancing Top-K Ranking Metrics Optimization in
        Recommender Systems", KDD 2025.

    Deviations:
        None: as in the authors' code, the gradient goes through the weight, too.

    Relations:
        τ_w → ∞: half of `infonce` without the positive.

    >>> sl_at_k(torch.tensor([0.5]), torch.tensor([[0.7]]), threshold=torch.tensor([0.5]), tau=0.1,
    ...         tau_w=1.0)
    tensor([1.])
    """
    check_tau(tau_w, "tau_w")
    softmax = infonce(pos, neg, tau=tau, neg_log_weight=neg_log_weight, include_positive=False)
    check_rows("threshold", threshold, pos)
    return torch.sigmoid((pos - threshold) / tau_w) * softmax
