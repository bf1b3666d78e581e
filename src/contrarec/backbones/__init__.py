"""Backbones: what turns ids into vectors."""

import numpy as np
import torch

from contrarec.backbones.alpharec import AlphaRec
from contrarec.backbones.lightgcn import LightGCN
from contrarec.backbones.lightgcnpp import LightGCNPlusPlus
from contrarec.backbones.mf import MF
from contrarec.backbones.tables import Backbone
from contrarec.config import FROM_FEATURES, BackboneConfig
from contrarec.data.interactions import Interactions
from contrarec.errors import ConfigError, unknown

__all__ = [
    "BACKBONES",
    "MF",
    "AlphaRec",
    "Backbone",
    "LightGCN",
    "LightGCNPlusPlus",
    "build_backbone",
]

BACKBONES: dict[str, type[Backbone]] = {
    "mf": MF,
    "lightgcn": LightGCN,
    "lightgcn++": LightGCNPlusPlus,
    FROM_FEATURES: AlphaRec,
}


def build_backbone(
    config: BackboneConfig,
    train: Interactions,
    generator: torch.Generator | None = None,
    features: np.ndarray | None = None,
) -> Backbone:
    """Build a backbone for the users, items and interactions of `train`.

    Args:
        config: its name and sizes.
        train: the interactions; LightGCN averages over this graph.
        generator: source of the initial values; None leaves that to torch's own.
        features: `[n_items, width]`, what AlphaRec maps; None to put a run's weights in.

    Raises:
        ConfigError: no backbone has that name.
    """
    if config.name not in BACKBONES:
        raise ConfigError(unknown("backbone", config.name, BACKBONES))
    if config.name == FROM_FEATURES:
        return AlphaRec(train, config, generator, features)
    return BACKBONES[config.name](train, config, generator)
