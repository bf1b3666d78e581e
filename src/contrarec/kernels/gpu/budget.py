"""The KL budget on a GPU: one program solves one row, so the host waits for nobody's last step."""

import math

import torch
import triton
import triton.language as tl

_TOLERANCE = tl.constexpr(1e-7)  # all constants as in the other twins
_MAX_STEPS = tl.constexpr(100)
_SATURATED = tl.constexpr(50.0)


def budget_multiplier(g: torch.Tensor, eta: float, maximum: float) -> torch.Tensor:
    """Compute `contrarec.kernels.budget.budget_multiplier` of `g [B, N]`; returns float64 `[B]`."""
    beta = g.new_empty(len(g), dtype=torch.float64)
    n = g.shape[1]
    width = max(16, triton.next_power_of_2(n))
    with torch.cuda.device_of(g):  # type: ignore[no-untyped-call]
        _solve[(len(g),)](
            g.contiguous(), beta, n, ETA=float(eta), MAXIMUM=float(maximum),
            FREE=math.isinf(maximum), WIDTH=width, num_warps=min(8, max(1, width // 128)),
        )  # fmt: skip
    return beta


@triton.jit
def _divergence(d, inside, beta, n):  # type: ignore[no-untyped-def]
    # KL(softmax(beta * d) || uniform) and Var_p(d), for a row whose maximum is 0
    weight = tl.where(inside, tl.exp(beta * d), 0.0)
    total = tl.sum(weight, 0)
    mean = tl.sum(weight * d, 0) / total
    variance = tl.sum(weight * (d - mean) * (d - mean), 0) / total
    return beta * mean - tl.log(total) + tl.log(n), variance


@triton.jit
def _solve(  # type: ignore[no-untyped-def]
    g, out, n_cols, ETA: tl.constexpr, MAXIMUM: tl.constexpr, FREE: tl.constexpr,
    WIDTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    eta = tl.full([], ETA, tl.float64)
    maximum = tl.full([], MAXIMUM, tl.float64)
    within = column < n_cols
    level = tl.load(g + row * n_cols + column, mask=within, other=-float("inf")).to(tl.float64)
    inside = level != -float("inf")
    n = tl.sum(inside.to(tl.float64), 0)
    d = tl.where(inside, level - tl.max(level, 0), 0.0)
    broken = tl.max(((d != d) | (level != level)).to(tl.int32), 0) > 0
    ties = tl.sum((inside & (d == 0.0)).to(tl.float64), 0)
    gap = tl.min(tl.where(inside & (d < 0.0), -d, float("inf")), 0)
    mean = tl.sum(d, 0) / n
    spread = tl.sum(tl.where(inside, (d - mean) * (d - mean), 0.0), 0) / n
    high = tl.minimum(maximum, tl.full([], _SATURATED, tl.float64) / gap)
    if FREE:
        most = tl.log(n / ties)
        answer = tl.where(ties == n, 1.0, high)
    else:
        most, _ = _divergence(d, inside, high, n)
        answer = maximum
    done = broken | (ties == n) | (most <= eta)
    x = tl.minimum(high * tl.sqrt(eta / most), tl.sqrt(2.0 * eta / spread))
    x = tl.where(done, answer, x)
    low = high * 0.0
    step = tl.full([], 0, tl.int32)
    while (step < _MAX_STEPS) & (done == 0):
        kl, variance = _divergence(d, inside, x, n)
        done = (tl.abs(kl - eta) <= eta * _TOLERANCE) | (kl != kl)
        low = tl.where(kl < eta, x, low)
        high = tl.where(kl < eta, high, x)
        root = tl.sqrt(tl.maximum(kl, 0.0))
        newton = x - 2.0 * root * (root - tl.sqrt(eta)) / (x * variance)
        following = tl.where((newton > low) & (newton < high), newton, 0.5 * (low + high))
        x = tl.where(done, x, following)
        step += 1
    tl.store(out + row, tl.where(broken, float("nan"), x))
