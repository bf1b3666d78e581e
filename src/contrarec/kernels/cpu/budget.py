"""The multiplier that keeps a row to its KL budget, compiled."""

import math

import numpy as np

from contrarec.kernels.budget import MAX_STEPS, SATURATED, TOLERANCE
from contrarec.kernels.cpu.compile import njit, njit_serial, prange


@njit_serial
def _divergence_row(d, beta):  # type: ignore[no-untyped-def]
    total = first = second = 0.0
    for j in range(len(d)):
        weight = math.exp(beta * d[j])
        total += weight
        first += weight * d[j]
        second += weight * d[j] * d[j]
    mean = first / total
    kl = beta * mean - math.log(total) + math.log(len(d))
    return kl, second / total - mean * mean


@njit_serial
def _solve_row(d, eta, maximum):  # type: ignore[no-untyped-def]
    n = len(d)
    if n == 0:
        return maximum if math.isfinite(maximum) else 1.0
    mean = square = 0.0
    ties, gap = 0, math.inf
    for j in range(n):
        mean += d[j]
        square += d[j] * d[j]
        if d[j] == 0.0:
            ties += 1
        else:
            gap = min(gap, -d[j])
    mean /= n
    spread = square / n - mean * mean
    if ties == n:
        return maximum if math.isfinite(maximum) else 1.0
    high = min(maximum, SATURATED / gap)
    if math.isfinite(maximum):
        most, _ = _divergence_row(d, high)
        if most <= eta:
            return maximum
    else:
        most = math.log(n / ties)
        if most <= eta:
            return high
    low = 0.0
    x = high * math.sqrt(eta / most)
    if spread > 0.0:
        x = min(x, math.sqrt(2.0 * eta / spread))
    for _ in range(MAX_STEPS):
        kl, variance = _divergence_row(d, x)
        if not abs(kl - eta) > TOLERANCE * eta:
            break
        if kl < eta:
            low = x
        else:
            high = x
        newton = -1.0
        if variance > 0.0 and kl > 0.0:
            root = math.sqrt(kl)
            newton = x - 2.0 * root * (root - math.sqrt(eta)) / (x * variance)
        x = newton if low < newton < high else 0.5 * (low + high)
    return x


@njit
def solve(g, eta, maximum, beta):  # type: ignore[no-untyped-def]
    """Write the multiplier of each row of `g [B, N]` into `beta [B]`; NaN for a row with NaN."""
    n = g.shape[1]
    for b in prange(len(g)):
        d = np.empty(n)
        top = -math.inf
        broken = False
        there = 0
        for j in range(n):
            level = g[b, j]
            if level != -math.inf:
                d[there] = level
                there += 1
                broken |= math.isnan(level)
                top = max(top, level)
        for j in range(there):
            d[j] -= top
            broken |= math.isnan(d[j])
        beta[b] = math.nan if broken else _solve_row(d[:there], eta, maximum)
