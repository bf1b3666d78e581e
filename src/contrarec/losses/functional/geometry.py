"""Alignment and uniformity: positive pairs close together, everything else spread over the sphere.

No negatives: the other rows of a batch are what a vector is kept away from.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from contrarec.errors import ConfigError

_NEARLY_ONE = 1 - 1e-7  # arccos has no derivative at 1
_ROWS = 128  # of the matrix of all pairs, in the cache at a time


def alignment(pos: torch.Tensor) -> torch.Tensor:
    """Squared distance of each positive pair on the unit sphere.

    `‖u − i‖² = 2 − 2·cos(u, i)`

    Args:
        pos: `[B]` cosines of the positives.

    Returns:
        `[B]`, between 0 and 4.

    Raises:
        ConfigError: `pos` is not `[B]`.

    Source:
        Wang & Isola, ICML 2020, section 4.1, with α = 2; for users and items: DirectAU
        (Wang et al., KDD 2022), eq. 4.

    >>> alignment(torch.tensor([1.0, 0.0, -1.0]))
    tensor([0., 2., 4.])
    """
    if pos.ndim != 1:
        raise ConfigError(f"`pos` must be [B], got {tuple(pos.shape)}.")
    return 2 - 2 * pos


def margin_alignment(pos: torch.Tensor, margin: torch.Tensor) -> torch.Tensor:
    """Cosine of each positive pair as if its angle were wider by a margin, negated.

    `−cos(min(θ + M, π))`, `θ = arccos(pos)`

    Args:
        pos: `[B]` cosines of the positives.
        margin: `[B]` angles to add, in radians and not negative; 0 to .5 in the paper.

    Returns:
        `[B]`, between −1 and 1.

    Raises:
        ConfigError: `pos` and `margin` are not both `[B]`.

    Source:
        MAWU (Park et al., CIKM 2023, arXiv 2308.06091), margin-aware alignment.

    Deviations:
        None: as in the authors' code the sum stops at π, beyond which a pair has no gradient.

    Relations:
        Without margin it is `alignment / 2 − 1`.

    >>> margin_alignment(torch.tensor([0.0]), torch.tensor([torch.pi / 6]))
    tensor([0.5000])
    """
    if pos.ndim != 1 or margin.shape != pos.shape:
        raise ConfigError(
            f"`pos` and `margin` must be [B], got {tuple(pos.shape)} and {tuple(margin.shape)}."
        )
    angle = pos.clamp(-_NEARLY_ONE, _NEARLY_ONE).arccos() + margin
    return -angle.clamp(max=math.pi).cos()


def uniformity(vectors: torch.Tensor, *, t: float = 2.0) -> torch.Tensor:
    """How unevenly directions are spread: log of the mean Gaussian potential of all pairs.

    `log mean_{a≠b} e^{−t‖x_a − x_b‖²}` of unit vectors, by `‖x_a − x_b‖² = 2 − 2⟨x_a, x_b⟩` and
    log-sum-exp. Each pair is looked at once, value and gradient together, some rows at a time:
    nothing of size `[B, B]` is held.

    Args:
        vectors: `[B, dim]`, of any length: their directions count. Repeated rows are pairs, too.
        t: inverse width of the potential; 2 in the paper.

    Returns:
        `[]`, between −4t and 0; 0 for fewer than two rows, which are no pair.

    Raises:
        ConfigError: `vectors` is not `[B, dim]` or `t` is not positive.

    Source:
        Wang & Isola, ICML 2020, section 4.1; for users and items: DirectAU, eq. 5.

    Relations:
        0 if all rows agree in direction, −2t if they are orthogonal, −4t for two opposite ones.

    >>> uniformity(torch.eye(3)), uniformity(torch.ones(3, 1))
    (tensor(-4.), tensor(0.))
    """
    if vectors.ndim != 2:
        raise ConfigError(f"`vectors` must be [B, dim], got {tuple(vectors.shape)}.")
    if not t > 0:
        raise ConfigError(f"`t` must be positive, got {t}.")
    n = len(vectors)
    if n < 2:
        return vectors.new_zeros(())
    total: torch.Tensor = _LogPotential.apply(F.normalize(vectors), t)  # type: ignore[no-untyped-call]
    return total - math.log(n * (n - 1) / 2)


class _LogPotential(torch.autograd.Function):
    """`log Σ_{a<b} e^{−2t(1 − ⟨x_a, x_b⟩)}` of unit rows, whose gradient is made on the way."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, t: float) -> torch.Tensor:
        top = x.new_tensor(-math.inf)  # the largest exponent so far, out of every sum
        total = torch.zeros_like(top)
        slope = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        for start in range(0, len(x), _ROWS):
            own, rest = x[start : start + _ROWS], x[start:]
            pairs = torch.addmm(x.new_full((), -2 * t), own, rest.T, alpha=2 * t)
            seen = torch.ones(len(own), len(own), dtype=torch.bool, device=x.device).tril()
            pairs[:, : len(own)].masked_fill_(seen, -math.inf)
            highest = torch.maximum(top, pairs.amax())
            fade = torch.exp(top - highest)
            pairs = pairs.sub_(highest).exp_()
            top, total = highest, total * fade + pairs.sum()
            if slope is not None:
                slope *= fade
                slope[start:].addmm_(pairs.T, own)
                slope[start : start + _ROWS].addmm_(pairs, rest)
        if slope is not None:
            ctx.save_for_backward(slope.mul_(2 * t / total))
        return total.log() + top

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        (slope,) = ctx.saved_tensors
        return grad * slope, None
