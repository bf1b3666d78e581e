"""Backbones: what turns ids into vectors. Each is called without arguments and returns both tables.

A backbone holds layer-0 tables `user_table [n_users, dim]` and `item_table [n_items, dim]`; calling
it gives the vectors that scores are computed from, with the same shapes.
"""

from typing import Protocol

import torch

from contrarec.backbones.lightgcn import LightGCN
from contrarec.backbones.mf import MF
from contrarec.config import BackboneConfig
from contrarec.data.interactions import Interactions
from contrarec.errors import ConfigError, unknown

__all__ = ["BACKBONES", "MF", "Backbone", "LightGCN", "build_backbone"]


class Backbone(Protocol):
    """What the training loop and the recommender need of a backbone."""

    user_table: torch.nn.Parameter
    item_table: torch.nn.Parameter

    def __call__(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the user and item vectors, `[n_users, dim]` and `[n_items, dim]`."""


BACKBONES: dict[str, type[MF] | type[LightGCN]] = {"mf": MF, "lightgcn": LightGCN}


def build_backbone(
    config: BackboneConfig, train: Interactions, generator: torch.Generator | None = None
) -> MF | LightGCN:
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
