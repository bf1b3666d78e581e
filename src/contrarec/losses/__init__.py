"""Losses: formulas (`functional`), what remembers or learns (modules), and their names (`table`).

A loss that only scores is a function in `functional`, its settings in `configs` and a row in
`table`; one that remembers or learns has a file with its config and its class.
"""

from contrarec.losses import functional
from contrarec.losses.adap_tau import AdapTau, AdapTauConfig
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
from contrarec.losses.biser import BISER, BISERConfig
from contrarec.losses.cause import CausE, CausEConfig
from contrarec.losses.configs import BPRConfig
from contrarec.losses.directau import DirectAU, DirectAUConfig
from contrarec.losses.drrl import DrRL, DrRLConfig
from contrarec.losses.infonce import InfoNCE, InfoNCEConfig
from contrarec.losses.ips import IPS, IPSConfig
from contrarec.losses.llpauc import LLPAUC, LLPAUCConfig
from contrarec.losses.macr import MACR, MACRConfig
from contrarec.losses.mawu import MAWU, MAWUConfig
from contrarec.losses.mixrec import MixRec, MixRecConfig
from contrarec.losses.ncl import NCL, NCLConfig
from contrarec.losses.pid import PID, PIDConfig
from contrarec.losses.popularity import PopularityConfig, PopularityLoss
from contrarec.losses.samreg import SAMREG, SAMREGConfig
from contrarec.losses.sgl import SGL, SGLConfig
from contrarec.losses.simgcl import SimGCL, SimGCLConfig, XSimGCL, XSimGCLConfig
from contrarec.losses.sl_at_k import SLAtK, SLAtKConfig
from contrarec.losses.table import BPR, LOSSES, LossSpec, resolve_loss
from contrarec.losses.uctrl import UCTRL, UCTRLConfig
from contrarec.losses.variational_bpr import VariationalBPR, VariationalBPRConfig

__all__ = [
    "BISER",
    "BPR",
    "IPS",
    "LLPAUC",
    "LOSSES",
    "MACR",
    "MAWU",
    "NCL",
    "PID",
    "SAMREG",
    "SGL",
    "UCTRL",
    "AUPlus",
    "AUPlusConfig",
    "AdapTau",
    "AdapTauConfig",
    "AdvDrop",
    "AdvDropConfig",
    "AdvInfoNCE",
    "AdvInfoNCEConfig",
    "AdversaryStep",
    "BISERConfig",
    "BPRConfig",
    "CausE",
    "CausEConfig",
    "DirectAU",
    "DirectAUConfig",
    "DrRL",
    "DrRLConfig",
    "EmbeddingHardness",
    "History",
    "IPSConfig",
    "InfoNCE",
    "InfoNCEConfig",
    "LLPAUCConfig",
    "Loss",
    "LossSpec",
    "MACRConfig",
    "MAWUConfig",
    "MLPHardness",
    "MixRec",
    "MixRecConfig",
    "NCLConfig",
    "PIDConfig",
    "PopularityConfig",
    "PopularityHardness",
    "PopularityLoss",
    "RandomHardness",
    "SAMREGConfig",
    "SGLConfig",
    "SLAtK",
    "SLAtKConfig",
    "SimGCL",
    "SimGCLConfig",
    "UCTRLConfig",
    "VariationalBPR",
    "VariationalBPRConfig",
    "XSimGCL",
    "XSimGCLConfig",
    "adversary_due",
    "functional",
    "resolve_loss",
    "score_loss",
]
