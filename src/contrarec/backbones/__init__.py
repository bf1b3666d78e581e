"""Backbones: what turns ids into vectors."""

import torch

from contrarec.backbones.lightgcn import LightGCN
from contrarec.backbones.lightgcnpp import LightGCNPlusPlus
from contrarec.backbones.mf import MF
from contrarec.backbones.tables import Backbone
from contrarec.config import BackboneConfig
from contrarec.data.interactions import Interactions
from contrarec.errors import ConfigError, unknown

__all__ = ["BACKBONES", "MF", "Backbone", "LightGCN", "LightGCNPlusPlus", "build_backbone"]

BACKBONES: dict[str, type[Backbone]] = {
    "mf": MF,
    "lightgcn": LightGCN,
    "lightgcn++": LightGCNPlusPlus,
}


def build_backbone(
    config: BackboneConfig, train: Interactions, generator: torch.Generator | None = None
) -> Backbone:
    """Build a backbone for the users, items and interactions of `train`.

    Args:
        config: its name and sizes.
        train: the interactions; LightGCN averages over this graph.
        generator: source of the initial values; None leaves that to torch's own.

    Raises:
        ConfigError: no backbone has that name.
    """
    if config.name not in BACKBONES:
        raise ConfigError(unknown("backbone", config.name, BACKBONES))
    return BACKBONES[config.name](train, config, generator)
