"""Every loss under a name: a row each, with what `contrarec methods` says of it."""

import dataclasses
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from contrarec.config import build
from contrarec.errors import ConfigError, unknown
from contrarec.losses import functional
from contrarec.losses.advdrop import AdvDrop
from contrarec.losses.advinfonce import AdvInfoNCE
from contrarec.losses.auplus import AUPlus
from contrarec.losses.base import Loss, score_loss
from contrarec.losses.configs import BPRConfig
from contrarec.losses.infonce import InfoNCE
from contrarec.losses.mixrec import MixRec
from contrarec.losses.ncl import NCL
from contrarec.losses.sgl import SGL
from contrarec.losses.simgcl import SimGCL, XSimGCL

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

_ADVINFONCE = "Zhang et al., NeurIPS 2023 (arXiv 2310.18700)"

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
