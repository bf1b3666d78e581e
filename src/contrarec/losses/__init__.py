"""Losses: formulas (`functional`), what remembers or learns (modules), and their names (`table`).

A loss that only scores is a function in `functional`, its settings in `configs` and a row in
`table`; one that remembers or learns has a file with its config and its class.
"""

from contrarec.losses import functional
from contrarec.losses.adversary import (
    EmbeddingHardness,
    MLPHardness,
    PopularityHardness,
    RandomHardness,
)
from contrarec.losses.advinfonce import AdvInfoNCE, AdvInfoNCEConfig, adversary_due
from contrarec.losses.base import AdversaryStep, History, Loss, score_loss
from contrarec.losses.configs import BPRConfig
from contrarec.losses.directau import DirectAU, DirectAUConfig
from contrarec.losses.infonce import InfoNCE, InfoNCEConfig
from contrarec.losses.mawu import MAWU, MAWUConfig
from contrarec.losses.table import BPR, LOSSES, LossSpec, resolve_loss
from contrarec.losses.uctrl import UCTRL, UCTRLConfig

__all__ = [
    "BPR",
    "LOSSES",
    "MAWU",
    "UCTRL",
    "AdvInfoNCE",
    "AdvInfoNCEConfig",
    "AdversaryStep",
    "BPRConfig",
    "DirectAU",
    "DirectAUConfig",
    "EmbeddingHardness",
    "History",
    "InfoNCE",
    "InfoNCEConfig",
    "Loss",
    "LossSpec",
    "MAWUConfig",
    "MLPHardness",
    "PopularityHardness",
    "RandomHardness",
    "UCTRLConfig",
    "adversary_due",
    "functional",
    "resolve_loss",
    "score_loss",
]
