"""Losses: formulas (`functional`), modules with hyper-parameters and state, and their names."""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from contrarec.config import build
from contrarec.errors import ConfigError, unknown
from contrarec.losses import functional
from contrarec.losses.adversary import (
    EmbeddingHardness,
    MLPHardness,
    PopularityHardness,
    RandomHardness,
    adversary_due,
)
from contrarec.losses.configs import AdvInfoNCEConfig, BPRConfig, InfoNCEConfig
from contrarec.losses.modules import BPR, AdversaryStep, AdvInfoNCE, InfoNCE, Loss

__all__ = [
    "BPR",
    "LOSSES",
    "AdvInfoNCE",
    "AdvInfoNCEConfig",
    "AdversaryStep",
    "BPRConfig",
    "EmbeddingHardness",
    "InfoNCE",
    "InfoNCEConfig",
    "Loss",
    "LossSpec",
    "MLPHardness",
    "PopularityHardness",
    "RandomHardness",
    "adversary_due",
    "functional",
    "resolve_loss",
]


class LossSpec(NamedTuple):
    """A loss under a name: its class, its config and the settings that the name stands for."""

    loss: type[Any]
    config: type[Any]
    defaults: Mapping[str, Any]
    summary: str

    def configure(self, **settings: Any) -> Any:
        """Make the config: the name's settings, then the given ones.

        Raises:
            ConfigError: a setting is unknown or out of range.

        >>> LOSSES["infonce-kneg"].configure(tau=0.2).k_neg
        64.0
        """
        where = f"settings of {self.loss.__name__}"
        return build(self.config, {**self.defaults, **settings}, where=where)


LOSSES: dict[str, LossSpec] = {
    "bpr": LossSpec(BPR, BPRConfig, {}, "pairwise ranking on dot products"),
    "infonce": LossSpec(InfoNCE, InfoNCEConfig, {}, "softmax over sampled negatives"),
    "infonce-kneg": LossSpec(
        InfoNCE, InfoNCEConfig, {"k_neg": 64.0}, "control: the negatives' sum × 64"
    ),
    "infonce-random": LossSpec(
        InfoNCE,
        InfoNCEConfig,
        {"k_neg": 64.0, "weights": "random"},
        "control: × 64 and weights fixed at random for each pair",
    ),
    "infonce-popularity": LossSpec(
        InfoNCE,
        InfoNCEConfig,
        {"k_neg": 64.0, "weights": "popularity"},
        "control: × 64 and weights by popularity",
    ),
    "advinfonce": LossSpec(
        AdvInfoNCE, AdvInfoNCEConfig, {}, "weights learned by an adversary with its own tables"
    ),
    "advinfonce-mlp": LossSpec(
        AdvInfoNCE,
        AdvInfoNCEConfig,
        {"hardness": "mlp"},
        "weights learned by MLPs on the model's tables",
    ),
    "advinfonce-closed": LossSpec(
        AdvInfoNCE,
        AdvInfoNCEConfig,
        {"hardness": "closed_form", "eta": 0.05},
        "the adversary's best answer within a KL budget, in closed form",
    ),
    "advinfonce-budget": LossSpec(
        AdvInfoNCE,
        AdvInfoNCEConfig,
        {"eta": 0.05},
        "an adversary with its own tables and an enforced KL budget",
    ),
}


def resolve_loss(name: str) -> LossSpec:
    """Look up a loss by name, or import one's own by `"module:Class"`.

    One's own class follows the `Loss` protocol; its `config_class` is a dataclass.

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
    config = getattr(loss, "config_class", None)
    if not isinstance(config, type) or not dataclasses.is_dataclass(config):
        raise ConfigError(f"loss {name!r} must have a dataclass as `config_class`, got {config!r}.")
    return LossSpec(loss, config, {}, (loss.__doc__ or name).strip().splitlines()[0])
