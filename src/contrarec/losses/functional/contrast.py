"""Contrast of views: each row's vector against its other self, among the vectors of all rows."""

import torch
import torch.nn.functional as F

from contrarec.errors import ConfigError
from contrarec.losses.functional.checks import check_tau


def contrast(
    anchors: torch.Tensor,
    positives: torch.Tensor,
    candidates: torch.Tensor | None = None,
    *,
    tau: float,
) -> torch.Tensor:
    """InfoNCE between vectors: `−log( e^{cos(a, p)/τ} / Σ_m e^{cos(a, c_m)/τ} )` for each row.

    Args:
        anchors: `[b, dim]`.
        positives: `[b, dim]`, row by row what an anchor is to be near to.
        candidates: `[m, dim]`, what stands in the denominator; the positives if None.
        tau: temperature; .05 to .2 in the papers.

    Returns:
        `[b]` losses.

    Raises:
        ConfigError: `tau` is not positive or the shapes do not fit.

    Source:
        van den Oord et al. 2018, eq. 4, as SGL, NCL, SimGCL, XSimGCL and MixRec write it.

    Deviations:
        Log-sum-exp; the authors' codes exponentiate, and overflow at small τ.

    Relations:
        Scaling a vector changes nothing. All vectors alike: log of the number of candidates.

    >>> contrast(torch.eye(2), torch.eye(2), tau=1.0)
    tensor([0.3133, 0.3133])
    """
    check_tau(tau)
    candidates = positives if candidates is None else candidates
    if anchors.shape != positives.shape or anchors.shape[1:] != candidates.shape[1:]:
        raise ConfigError(
            "`anchors` and `positives` must be [b, dim] and `candidates` [m, dim], got "
            f"{tuple(anchors.shape)}, {tuple(positives.shape)} and {tuple(candidates.shape)}."
        )
    unit = F.normalize(anchors)
    logits = unit @ (F.normalize(candidates) / tau).T  # [b, m]
    return torch.logsumexp(logits, 1) - (unit * F.normalize(positives)).sum(1) / tau
