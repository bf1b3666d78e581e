"""AdvInfoNCE as robust optimisation: how bad it could get within a KL ball, and how bad it is.

The largest mean of values v under weights p that are at most η nats from uniform,

    sup { Σ_j p_j v_j : KL(p ‖ uniform) ≤ η }  =  min_{λ > 0}  λη + λ log mean_j e^{v_j/λ},

is reached by the tilted weights `p_j ∝ e^{v_j/λ}` with the λ that spends the budget. With
`v_j = e^{s_j/τ}` that is the adversary's best answer to the scores s of a row's negatives, and the
loss, which rises with the mean, is then as large as the budget allows.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch

from contrarec.audit.pairs import View
from contrarec.data.interactions import Interactions
from contrarec.errors import ConfigError
from contrarec.evaluation.compare import bootstrap_interval
from contrarec.kernels.budget import budget_multiplier
from contrarec.kernels.scores import sampled_scores
from contrarec.losses.functional import closed_form_log_p, infonce, kl_to_uniform
from contrarec.sampling import Sampler

ETAS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
RESAMPLES = 1_000

DEFINITIONS = {
    "worst": "mean loss under the weights that raise it most within a KL of eta from uniform, row "
    "by row; the supremum, by the tilted form",
    "uniform": "mean loss with uniform weights: eta = 0",
    "achieved": "mean loss under the adversary's own weights, at their mean KL",
    "worst_at_kl": "the worst loss where every row has the adversary's mean KL as its budget",
    "share": "(achieved − uniform) / (worst_at_kl − uniform): how much of the harm that its KL "
    "allows the adversary does; below 0 where its weights make the loss smaller",
    "dual_gap": "largest relative difference between primal and dual value over the rows",
    "rows": "one positive of each user that was drawn, with the negatives of a training batch",
    "interval": f"95 %, bootstrap over users ({RESAMPLES} resamples)",
}


def worst_mean(values: torch.Tensor, eta: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the largest mean of each row under weights within a KL ball, and the λ of its tilt.

    Args:
        values: `[B, N]`, finite.
        eta: radius in nats, positive.

    Returns:
        The means `[B]`, and λ `[B]`: 0 where all weight goes to the largest values, ∞ in a
        constant row. Both float64.

    Raises:
        ConfigError: `eta` is not positive.

    Relations:
        Equals `dual_bound` at this λ; no weights in the ball have a larger mean.

    >>> worst_mean(torch.tensor([[0.0, 1.0]]), 1.0)[0]  # log 2 nats are enough for all weight
    tensor([1.], dtype=torch.float64)
    """
    v = values.double()
    top = v.amax(1, keepdim=True)
    beta = budget_multiplier(v, eta, maximum=math.inf)
    constant = (v == top).all(1)
    weights = ((v - top) * beta[:, None]).softmax(1)
    saturated = eta >= math.log(v.shape[1]) - (v == top).sum(1).double().log()
    lam = torch.where(constant, torch.inf, torch.where(saturated, 0.0, 1 / beta))
    return (weights * v).sum(1), lam


def dual_bound(values: torch.Tensor, eta: float, lam: torch.Tensor) -> torch.Tensor:
    """Return `λη + λ log mean_j e^{v_j/λ}` of each row: above the worst mean, whatever λ.

    Args:
        values: `[B, N]`.
        eta: radius in nats.
        lam: `[B]`, not negative; 0 and ∞ stand for the limits, the maximum and, with η = 0, the
            mean.
    """
    v = values.double()
    n, top = v.shape[1], v.amax(1)
    finite = lam.clamp(min=1e-300, max=1e300)
    tilted = ((v - top[:, None]) / finite[:, None]).logsumexp(1) - math.log(n)
    bound = top + finite * (eta + tilted)
    return torch.where(lam == 0, top, torch.where(lam.isinf(), v.mean(1), bound))


def measure_dro(
    view: View,
    history: Interactions,
    *,
    n_neg: int,
    etas: Sequence[float] = ETAS,
    n_rows: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Set the adversary's loss beside the worst that each budget allows.

    Args:
        view: the model; its loss has a temperature.
        history: training interactions; a row is a user, one of its positives and `n_neg` negatives.
        n_neg: negatives a row.
        etas: budgets in nats.
        n_rows: rows, one per user.
        seed: of the draws and the resampling.

    Raises:
        ConfigError: the loss is no weighted softmax, or a budget is not positive.
    """
    if not etas or min(etas) <= 0:
        raise ConfigError(f"`etas` must be positive and at least one, got {list(etas)}.")
    tau = getattr(view.loss.config, "tau", None)
    if tau is None or not view.weighs:
        raise ConfigError(
            f"the loss {type(view.loss).__name__} has no adversary that weighs the negatives of a "
            "softmax, so that there is no ball to look at."
        )
    pos, neg, log_p = _rows(view, history, n_neg, n_rows, seed)
    uniform = torch.full_like(neg, -math.log(n_neg))
    factor = math.log(getattr(view.loss.config, "k_neg", 1.0)) + math.log(n_neg)

    def losses(weights: torch.Tensor) -> torch.Tensor:
        return infonce(pos, neg, tau=tau, neg_log_weight=weights + factor)

    def worst(eta: float) -> torch.Tensor:
        return losses(closed_form_log_p(neg, tau=tau, eta=eta))

    kl = float(kl_to_uniform(log_p).mean())
    columns = [losses(uniform), losses(log_p), worst(max(kl, 1e-9)), *map(worst, etas)]
    table = torch.stack(columns, 1).numpy()
    low, high = bootstrap_interval(table, n_resamples=RESAMPLES, rng=seed)
    means = [
        {"loss": float(mean), "low": float(lower), "high": float(upper)}
        for mean, lower, upper in zip(table.mean(0), low, high, strict=True)
    ]
    room = means[2]["loss"] - means[0]["loss"]
    gained = means[1]["loss"] - means[0]["loss"]
    return {
        "rows": len(table),
        "n_neg": n_neg,
        "tau": tau,
        "uniform": means[0],
        "achieved": means[1] | {"kl": kl},
        "worst_at_kl": means[2],
        "share": gained / room if room > 0 else None,
        "curve": [{"eta": eta, **mean} for eta, mean in zip(etas, means[3:], strict=True)],
        "dual_gap": _dual_gap(neg, tau, etas),
    }


@torch.no_grad()
def _rows(
    view: View, history: Interactions, n_neg: int, n_rows: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw rows; return positives' scores `[B]`, negatives' and their log p `[B, N]`, float64."""
    n_active = int((history.user_counts > 0).sum())
    sampler = Sampler(
        history,
        batch_size=min(n_rows, n_active, history.nnz),
        n_neg=n_neg,
        positives="user",
        drop_last=False,
        seed=seed,
    )
    batch = next(sampler.batches(0, "max"))
    users, items = batch.users.to(view.device), batch.items.to(view.device)
    cosine = view.loss.similarity == "cosine"
    scores = sampled_scores(*view.outputs, users, items, cosine=cosine)  # [B, 1 + N]
    pos, neg, neg_items = scores[:, 0], scores[:, 1:], items[:, 1:].contiguous()
    log_p = view.loss.log_p(neg, users=users, neg_items=neg_items, vectors=view.vectors)
    if log_p is None:
        raise ConfigError(f"the loss {type(view.loss).__name__} weighs all negatives alike.")
    return pos.cpu().double(), neg.cpu().double(), log_p.cpu().double()


def _dual_gap(neg: torch.Tensor, tau: float, etas: Sequence[float]) -> float:
    """Check the equivalence on the rows at hand: the relative gap of primal and dual."""
    values = ((neg - neg.amax(1, keepdim=True)) / tau).exp()  # a row's scale changes no gap
    gaps = []
    for eta in etas:
        mean, lam = worst_mean(values, eta)
        gaps.append(float(((dual_bound(values, eta, lam) - mean) / mean).abs().max()))
    return max(gaps)
