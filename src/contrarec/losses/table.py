"""Every loss under a name: a row each, with what `contrarec methods` says of it."""

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from contrarec.config import build
from contrarec.errors import ConfigError, unknown
from contrarec.losses import functional
from contrarec.losses.adap_tau import AdapTau
from contrarec.losses.advdrop import AdvDrop
from contrarec.losses.advinfonce import AdvInfoNCE
from contrarec.losses.auplus import AUPlus
from contrarec.losses.base import Loss, score_loss
from contrarec.losses.biser import BISER
from contrarec.losses.bsl import BSL
from contrarec.losses.cause import CausE
from contrarec.losses.configs import (
    BPRConfig,
    CCLConfig,
    HCLConfig,
    MMCLConfig,
    PSLConfig,
    SimCEConfig,
)
from contrarec.losses.directau import DirectAU
from contrarec.losses.drrl import DrRL
from contrarec.losses.infonce import InfoNCE
from contrarec.losses.ips import IPS
from contrarec.losses.llpauc import LLPAUC
from contrarec.losses.macr import MACR
from contrarec.losses.mawu import MAWU
from contrarec.losses.mixrec import MixRec
from contrarec.losses.ncl import NCL
from contrarec.losses.pid import PID
from contrarec.losses.popularity import PopularityLoss
from contrarec.losses.samreg import SAMREG
from contrarec.losses.sgl import SGL
from contrarec.losses.simgcl import SimGCL, XSimGCL
from contrarec.losses.sl_at_k import SLAtK
from contrarec.losses.uctrl import UCTRL
from contrarec.losses.variational_bpr import VariationalBPR

Kind = Literal["loss", "graph", "debiasing"]


@dataclass(frozen=True)
class LossSpec:
    """A loss under a name: its class and the settings that the name stands for."""

    loss: type[Loss]
    summary: str
    source: str
    """The paper; empty where the name is a control of our own."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values of its config that the name stands for."""
    kind: Kind = "loss"
    """What it is for: `loss` of scores, `graph` contrast of views, `debiasing`."""
    needs: str = ""
    """What it takes beside scores: item counts, the graph, …"""
    backbones: tuple[str, ...] = ()
    """The backbones it goes with, the usual one first; empty if any."""
    backbone_defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values of the backbone's config that the name stands for."""

    @property
    def config(self) -> type[Any]:
        """The class of its config."""
        return self.loss.config_class

    def configure(self, **settings: Any) -> Any:
        """Make the config: the name's settings, then the given ones.

        Raises:
            ConfigError: a setting is unknown or out of range.

        >>> LOSSES["infonce-kneg"].configure(tau=0.2).k_neg
        64.0
        """
        where = f"settings of {self.loss.__name__}"
        return build(self.config, {**self.defaults, **settings}, where=where)


BPR = score_loss(functional.bpr, BPRConfig, similarity="dot")
CCL = score_loss(functional.ccl, CCLConfig)
MMCL = score_loss(functional.mmcl, MMCLConfig)
SimCE = score_loss(functional.simce, SimCEConfig, similarity="dot")
PSL = score_loss(functional.psl, PSLConfig)
HCL = score_loss(functional.hcl, HCLConfig)

_ADVINFONCE = "Zhang et al., NeurIPS 2023 (arXiv 2310.18700)"
_BSL = "Wu et al., ICDE 2024 (arXiv 2312.12882)"
_PSL = "Yang et al., NeurIPS 2024 (arXiv 2411.00163)"

LOSSES: dict[str, LossSpec] = {
    "bpr": LossSpec(BPR, "pairwise ranking on dot products", "Rendle et al., UAI 2009"),
    "infonce": LossSpec(
        InfoNCE, "softmax over sampled negatives", "van den Oord et al. 2018 (arXiv 1807.03748)"
    ),
    "infonce-kneg": LossSpec(
        InfoNCE, "control: the negatives' sum × 64", _ADVINFONCE, {"k_neg": 64.0}
    ),
    "infonce-random": LossSpec(
        InfoNCE,
        "control: × 64 and weights fixed at random for each pair",
        _ADVINFONCE,
        {"k_neg": 64.0, "weights": "random"},
    ),
    "infonce-popularity": LossSpec(
        InfoNCE,
        "control: × 64 and weights by popularity",
        _ADVINFONCE,
        {"k_neg": 64.0, "weights": "popularity"},
        needs="item counts",
    ),
    "advinfonce": LossSpec(
        AdvInfoNCE,
        "weights learned by an adversary with its own tables",
        _ADVINFONCE,
        needs="adversary",
    ),
    "advinfonce-mlp": LossSpec(
        AdvInfoNCE,
        "weights learned by MLPs on the model's tables",
        _ADVINFONCE,
        {"hardness": "mlp"},
        needs="adversary",
    ),
    "advinfonce-closed": LossSpec(
        AdvInfoNCE,
        "the adversary's best answer within a KL budget, in closed form",
        "",
        {"hardness": "closed_form", "eta": 0.05},
    ),
    "advinfonce-budget": LossSpec(
        AdvInfoNCE,
        "an adversary with its own tables and an enforced KL budget",
        "",
        {"eta": 0.05},
        needs="adversary",
    ),
    "sl": LossSpec(
        InfoNCE, "softmax without the positive below the line", _BSL, {"include_positive": False}
    ),
    "bsl": LossSpec(BSL, "softmax with a user's positives pooled", _BSL),
    "psl-tanh": LossSpec(PSL, "softmax with tanh for the exponential", _PSL),
    "psl-atan": LossSpec(
        PSL, "softmax with arctan for the exponential", _PSL, {"activation": "atan"}
    ),
    "psl-relu": LossSpec(
        PSL, "softmax with a line for the exponential", _PSL, {"activation": "relu"}
    ),
    "hcl": LossSpec(
        HCL, "softmax that leans on hard negatives", "Robinson et al., ICLR 2021 (arXiv 2010.04592)"
    ),
    "ccl": LossSpec(
        CCL,
        "cosines: positives to 1, negatives to a margin",
        "Mao et al., CIKM 2021 (arXiv 2109.12613)",
    ),
    "mmcl": LossSpec(MMCL, "CCL with several margins", "Ozsoy 2024 (arXiv 2405.04614)"),
    "simce": LossSpec(
        SimCE, "a margin from the hardest negative", "Yang et al. 2024 (arXiv 2406.16170)"
    ),
    "bc": LossSpec(
        PopularityLoss,
        "wider angular margins where popularity foretells less",
        "Zhang et al., NeurIPS 2022",
        needs="history",
    ),
    "popgo": LossSpec(
        PopularityLoss,
        "cosines scaled by what popularity foretells",
        "Zhang et al., TOIS 2024",
        {"discount": "scale"},
        needs="history",
    ),
    "adap-tau": LossSpec(
        AdapTau,
        "temperatures that follow the cosines' spread and each user's loss",
        "Chen et al., WWW 2023 (arXiv 2302.04775)",
        needs="history",
    ),
    "sl-at-k": LossSpec(
        SLAtK,
        "softmax weighted by whether the positive is among the K best",
        "Yang et al., KDD 2025",
        needs="history",
    ),
    "drrl": LossSpec(
        DrRL,
        "hinges with a margin for each user that finds the worst case",
        "Zhang et al., AAAI 2025 (arXiv 2506.15120)",
    ),
    "llpauc": LossSpec(
        LLPAUC, "min-max for the lower left of the ROC curve", "Shi et al., WWW 2024"
    ),
    "variational-bpr": LossSpec(
        VariationalBPR,
        "several positives and negatives, weighted by how likely each is",
        "Liu et al. 2025 (arXiv 2503.11067)",
        needs="history",
    ),
    "directau": LossSpec(
        DirectAU,
        "alignment and uniformity, no negatives",
        "Wang et al., KDD 2022 (arXiv 2206.12811)",
        needs="vectors of the batch",
    ),
    "mawu": LossSpec(
        MAWU,
        "alignment with learned margins, uniformity weighted for users and items",
        "Park et al., CIKM 2023 (arXiv 2308.06091)",
        needs="vectors of the batch",
    ),
    "uctrl": LossSpec(
        UCTRL,
        "alignment weighted by learned inverse propensities, and uniformity",
        "Lee et al., SIGIR 2023 (arXiv 2305.12768)",
        needs="vectors of the batch, history",
    ),
    "ips": LossSpec(
        IPS,
        "BPR in which rare positives count for more",
        "Gruson et al., WSDM 2019",
        kind="debiasing",
        needs="item counts",
    ),
    "cause": LossSpec(
        CausE,
        "BPR with a second item table for a control sample without popularity",
        "Bonner & Vasile, RecSys 2018",
        kind="debiasing",
        needs="item counts, vectors of the batch",
    ),
    "macr": LossSpec(
        MACR,
        "what the item alone explains is learned beside the match and taken out",
        "Wei et al., KDD 2021 (arXiv 2010.15363)",
        kind="debiasing",
        needs="vectors of the batch",
    ),
    "sam-reg": LossSpec(
        SAMREG,
        "BPR whose success must not go along with popularity",
        "Boratto et al., IPM 2021",
        kind="debiasing",
        needs="item counts",
    ),
    "pid": LossSpec(
        PID,
        "BPR on item vectors from which a probe cannot tell popularity",
        _ADVINFONCE,
        kind="debiasing",
        needs="item counts, vectors of the batch",
    ),
    "biser": LossSpec(
        BISER,
        "two models that weigh clicks by their own predictions and learn from each other",
        "Lee et al., SIGIR 2022 (arXiv 2207.12660)",
        kind="debiasing",
    ),
    "sgl": LossSpec(
        SGL,
        "BPR and the contrast of two graphs with edges dropped",
        "Wu et al., SIGIR 2021 (arXiv 2010.10783)",
        kind="graph",
        needs="the graph",
        backbones=("lightgcn",),
    ),
    "simgcl": LossSpec(
        SimGCL,
        "BPR and the contrast of two passes with noise in the layers",
        "Yu et al., SIGIR 2022 (arXiv 2112.08679)",
        kind="graph",
        needs="the graph",
        backbones=("lightgcn",),
        backbone_defaults={"ego_weight": 0.0},
    ),
    "xsimgcl": LossSpec(
        XSimGCL,
        "BPR on a noisy pass, contrasted with one of its layers",
        "Yu et al., TKDE 2023 (arXiv 2209.02544)",
        kind="graph",
        needs="the graph",
        backbones=("lightgcn",),
        backbone_defaults={"ego_weight": 0.0},
    ),
    "ncl": LossSpec(
        NCL,
        "BPR and the contrast of layers, and with the centroids of clusters",
        "Lin et al., WWW 2022 (arXiv 2202.06200)",
        kind="graph",
        needs="the graph",
        backbones=("lightgcn",),
    ),
    "mixrec": LossSpec(
        MixRec,
        "BPR, a softmax over mixed negatives and the contrast with mixtures",
        "Zhang and Zhang, WWW 2025 (arXiv 2501.13579)",
        kind="graph",
        needs="the graph",
        backbones=("lightgcn",),
        backbone_defaults={"n_layers": 3, "ego_weight": 0.0},
    ),
    "au-plus": LossSpec(
        AUPlus,
        "alignment, uniformity and the contrast of two passes from noisy tables",
        "the code of AU+; DirectAU: Wang et al., KDD 2022 (arXiv 2206.12811)",
        kind="graph",
        needs="the graph",
        backbones=("lightgcn",),
        backbone_defaults={"n_layers": 3},
    ),
    "advdrop": LossSpec(
        AdvDrop,
        "BPR over two complementary graphs and their contrast, parted by an adversary",
        "Zhang et al., WWW 2024 (arXiv 2402.13769)",
        kind="graph",
        needs="the graph, adversary",
        backbones=("lightgcn",),
    ),
}


def resolve_loss(name: str) -> LossSpec:
    """Look up a loss by name, or import one's own by `"module:Class"`.

    One's own class inherits from `Loss`; its `config_class` is a dataclass.

    Raises:
        ConfigError: the name is unknown, or the class cannot be had.

    >>> resolve_loss("advinfonce").loss.__name__
    'AdvInfoNCE'
    """
    if ":" not in name:
        if name not in LOSSES:
            raise ConfigError(unknown("loss", name, LOSSES))
        return LOSSES[name]
    module, _, attribute = name.partition(":")
    try:
        loss = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"loss {name!r} cannot be imported: {error}.") from error
    if not isinstance(loss, type) or not issubclass(loss, Loss):
        raise ConfigError(f"loss {name!r} must inherit from contrarec.losses.Loss, got {loss!r}.")
    config = getattr(loss, "config_class", None)
    if not isinstance(config, type) or not dataclasses.is_dataclass(config):
        raise ConfigError(f"loss {name!r} must have a dataclass as `config_class`, got {config!r}.")
    return LossSpec(loss, (loss.__doc__ or name).strip().splitlines()[0], name)
