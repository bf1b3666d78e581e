"""The KL budget of a reweighting: how far each row of logits may lean away from uniform.

For a row of logits `g`, `KL(softmax(β·g) ‖ uniform)` rises with β from 0 at β = 0 to `log(N / m)`,
where m entries share the maximum; its derivative is `β·Var_p(g)`. `budget_multiplier` finds the β
that spends a given budget. Both twins take Newton steps on the square root of the divergence
(nearly linear in β, since the divergence starts as `β²·Var(g)/2`) inside a bracket that only
shrinks, in double precision.
"""

import math

import numpy as np
import torch

from contrarec.errors import ConfigError
from contrarec.kernels.dispatch import Backend, resolve

TOLERANCE = 1e-7  # relative, in the divergence
MAX_STEPS = 100  # Newton needs 2 to 12; bisection alone would be done by then, too
SATURATED = 50.0  # β·gap at which all but the maximal entries weigh less than 1e-21


def budget_multiplier(
    g: torch.Tensor, eta: float, *, maximum: float = 1.0, backend: Backend = "auto"
) -> torch.Tensor:
    """Largest β ≤ `maximum` per row with `KL(softmax(β·g) ‖ uniform) ≤ eta`.

    A row within the budget at `maximum` gets `maximum`. Where the budget binds, the divergence is
    `eta` to 1e-6 relative. With `maximum = inf`, a row that cannot spend the budget gets a β that
    puts all weight on its maximal entries, and a constant row gets 1. Not differentiable: β is a
    constant for whoever multiplies by it.

    Args:
        g: `[B, N]` logits, floating point. A row with NaN gets NaN. Entries of `-inf` are left out:
            the row is one of its other entries, and so is the uniform distribution.
        eta: the budget in nats, positive.
        maximum: upper bound of β, positive; may be `inf`.
        backend: `auto`, `reference`, `numba` or `triton`.

    Returns:
        `[B]`, in the type of `g` but at least float32.

    Raises:
        ConfigError: a setting is out of range or `g` is not `[B, N]`.
        BackendError: the back end asked for is not there.

    >>> g = torch.tensor([[0.0, 4.0], [0.0, 0.1]])
    >>> beta = budget_multiplier(g, 0.1)
    >>> p = (beta[:, None] * g).softmax(1)
    >>> (p * (2 * p).log()).sum(1)
    tensor([0.1000, 0.0012])
    """
    if not eta > 0:
        raise ConfigError(f"`eta` must be positive, got {eta}.")
    if not maximum > 0:
        raise ConfigError(f"`maximum` must be positive, got {maximum}.")
    if g.ndim != 2 or not g.is_floating_point():
        raise ConfigError(f"`g` must be [B, N] floating point, got {tuple(g.shape)} {g.dtype}.")
    g = g.detach()
    dtype = torch.promote_types(g.dtype, torch.float32)
    if g.numel() == 0:
        return g.new_ones(len(g), dtype=dtype)
    twin = resolve(backend, g, gpu=True)
    if twin == "reference":
        return budget_multiplier_reference(g, eta, maximum=maximum).to(dtype)
    if twin == "triton":
        from contrarec.kernels.gpu import budget as gpu

        return gpu.budget_multiplier(g, eta, maximum).to(dtype)
    from contrarec.kernels.cpu import budget as cpu

    beta = np.empty(len(g))
    cpu.solve(g.to(dtype).contiguous().numpy(), float(eta), float(maximum), beta)
    return torch.from_numpy(beta).to(dtype)


def budget_multiplier_reference(
    g: torch.Tensor, eta: float, *, maximum: float = 1.0
) -> torch.Tensor:
    """Compute `budget_multiplier` in plain torch, all rows in step; returns float64.

    Waits for the device at every step, to see whether all rows are done.
    """
    g = g.double()
    there = g != -torch.inf
    n = there.sum(1).double()
    log_n = n.log()
    d = torch.where(there, g - g.amax(1, keepdim=True), 0.0)  # [B, N], at most 0
    constant = d.amin(1) == 0
    ties = (there & (d == 0)).sum(1)
    gap = -torch.where(d < 0, d, -torch.inf).amax(1)  # to the largest entry below the maximum
    high = (SATURATED / gap).clamp(max=maximum)
    most = _divergence(d, there, high, log_n)[0] if math.isfinite(maximum) else log_n - ties.log()
    done = constant | (most <= eta)
    if math.isfinite(maximum):
        beta = torch.full_like(high, maximum)
    else:
        beta = torch.where(constant, 1.0, high)
    low = torch.zeros_like(high)
    spread = (d - (d.sum(1) / n)[:, None]).square().mul(there).sum(1) / n
    x = torch.minimum((2.0 * eta / spread).sqrt(), high * (eta / most).sqrt())
    for _ in range(MAX_STEPS):
        if bool(done.all()):
            break
        kl, variance = _divergence(d, there, x, log_n)
        beta = torch.where(done, beta, x)
        done = done | ((kl - eta).abs() <= TOLERANCE * eta) | kl.isnan()
        low, high = torch.where(kl < eta, x, low), torch.where(kl < eta, high, x)
        root = kl.clamp(min=0).sqrt()
        newton = x - 2.0 * root * (root - math.sqrt(eta)) / (x * variance)
        inside = (newton > low) & (newton < high)
        x = torch.where(inside, newton, 0.5 * (low + high))
    return torch.where(g.isnan().any(1), torch.nan, beta)


def _divergence(
    d: torch.Tensor, there: torch.Tensor, beta: torch.Tensor, log_n: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """KL(softmax(β·d) ‖ uniform) and Var_p(d) per row, for rows whose maximum is 0."""
    weight = (beta[:, None] * d).exp() * there
    total = weight.sum(1)
    mean = (weight * d).sum(1) / total
    variance = (weight * (d - mean[:, None]).square()).sum(1) / total
    return beta * mean - total.log() + log_n, variance
