"""The losses as formulas: scores in, one value per row out.

Every function takes the scores of the positives `pos [B]` and of the sampled negatives
`neg [B, N]`, and hyper-parameters by keyword; none knows models, ids or tables. Everything that
reweights negatives enters as `neg_log_weight [B, N]`, added to the negatives' logits inside one
log-sum-exp.
"""

from contrarec.losses.functional.adaptive import (
    adap_tau,
    bc,
    common_scale,
    sl_at_k,
    user_scales,
)
from contrarec.losses.functional.contrast import contrast
from contrarec.losses.functional.debiasing import (
    macr,
    sam_reg,
    self_unbiased,
    squared_correlation,
)
from contrarec.losses.functional.geometry import alignment, margin_alignment, uniformity
from contrarec.losses.functional.margin import ccl, mmcl, simce
from contrarec.losses.functional.pairwise import bpr
from contrarec.losses.functional.robust import drrl, llpauc, variational_bpr
from contrarec.losses.functional.softmax import (
    budgeted_log_p,
    closed_form_log_p,
    infonce,
    kl_to_uniform,
)
from contrarec.losses.functional.softmax_variants import bsl, hcl, psl

__all__ = [
    "adap_tau",
    "alignment",
    "bc",
    "bpr",
    "bsl",
    "budgeted_log_p",
    "ccl",
    "closed_form_log_p",
    "common_scale",
    "contrast",
    "drrl",
    "hcl",
    "infonce",
    "kl_to_uniform",
    "llpauc",
    "macr",
    "margin_alignment",
    "mmcl",
    "psl",
    "sam_reg",
    "self_unbiased",
    "simce",
    "sl_at_k",
    "squared_correlation",
    "uniformity",
    "user_scales",
    "variational_bpr",
]
