"""Popularity: everyone is offered what most users have."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from contrarec.baselines.base import Baseline
from contrarec.data.interactions import Interactions
from contrarec.errors import ConfigError
from contrarec.evaluation.ranking import Scorer


@dataclass(frozen=True, kw_only=True)
class PopularityConfig:
    """Popularity has no hyper-parameters."""


class Popularity(Baseline):
    """Score of an item: its number of training interactions, the same for all users."""

    config_class: ClassVar[type[Any]] = PopularityConfig
    rows: ClassVar[Mapping[str, str]] = {"counts": "n_items"}

    @classmethod
    def fit(
        cls,
        train: Interactions,
        config: PopularityConfig,
        rng: np.random.Generator,  # noqa: ARG003
    ) -> Self:
        """Count the interactions of each item."""
        return cls({"counts": torch.tensor(train.item_counts)}, train, config)

    def fold_in(self, history: Interactions) -> Scorer:  # noqa: ARG002
        """Return the scorer for any users."""
        counts = self.tensors["counts"].float()

        def score(users: NDArray[np.int64], /) -> torch.Tensor:
            return counts.expand(len(users), -1)  # [b, n_items]

        return score

    def similar(self) -> Scorer:
        """Raise: a count says nothing about how near two items are."""
        raise ConfigError("'popularity' knows no similar items: it only counts.")
