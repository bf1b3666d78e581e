"""The losses as formulas: scores in, one value per row out.

Every function takes the scores of the positives `pos [B]` and of the sampled negatives
`neg [B, N]`, and hyper-parameters by keyword; none knows models, ids or tables. Everything that
reweights negatives enters as `neg_log_weight [B, N]`, added to the negatives' logits inside one
log-sum-exp.
"""

from contrarec.losses.functional.contrast import contrast
from contrarec.losses.functional.geometry import alignment, margin_alignment, uniformity
from contrarec.losses.functional.pairwise import bpr
from contrarec.losses.functional.softmax import (
    budgeted_log_p,
    closed_form_log_p,
    infonce,
    kl_to_uniform,
)

__all__ = [
    "alignment",
    "bpr",
    "budgeted_log_p",
    "closed_form_log_p",
    "contrast",
    "infonce",
    "kl_to_uniform",
    "margin_alignment",
    "uniformity",
]
