"""Losses: formulas (`functional`), what remembers or learns (modules), and their names (`table`).

A loss that only scores is a function in `functional`, its settings in `configs` and a row in
`table`; one that remembers or learns has a file with its config and its class.
"""

from contrarec.losses import functional
from contrarec.losses.advdrop import AdvDrop, AdvDropConfig
from contrarec.losses.adversary import (
    EmbeddingHardness,
    MLPHardness,
    PopularityHardness,
    RandomHardness,
)
from contrarec.losses.advinfonce import AdvInfoNCE, AdvInfoNCEConfig, adversary_due
from contrarec.losses.auplus import AUPlus, AUPlusConfig
from contrarec.losses.base import AdversaryStep, History, Loss, score_loss
from contrarec.losses.configs import BPRConfig
from contrarec.losses.infonce import InfoNCE, InfoNCEConfig
from contrarec.losses.mixrec import MixRec, MixRecConfig
from contrarec.losses.ncl import NCL, NCLConfig
from contrarec.losses.sgl import SGL, SGLConfig
from contrarec.losses.simgcl import SimGCL, SimGCLConfig, XSimGCL, XSimGCLConfig
from contrarec.losses.table import BPR, LOSSES, LossSpec, resolve_loss

__all__ = [
    "BPR",
    "LOSSES",
    "NCL",
    "SGL",
    "AUPlus",
    "AUPlusConfig",
    "AdvDrop",
    "AdvDropConfig",
    "AdvInfoNCE",
    "AdvInfoNCEConfig",
    "AdversaryStep",
    "BPRConfig",
    "EmbeddingHardness",
    "History",
    "InfoNCE",
    "InfoNCEConfig",
    "Loss",
    "LossSpec",
    "MLPHardness",
    "MixRec",
    "MixRecConfig",
    "NCLConfig",
    "PopularityHardness",
    "RandomHardness",
    "SGLConfig",
    "SimGCL",
    "SimGCLConfig",
    "XSimGCL",
    "XSimGCLConfig",
    "adversary_due",
    "functional",
    "resolve_loss",
    "score_loss",
]
