"""Baselines: what any method is expected to beat, fitted in closed form or by a library."""

from dataclasses import dataclass
from typing import Any, ClassVar

from contrarec.baselines.als import ALS, ALSConfig
from contrarec.baselines.base import Baseline
from contrarec.baselines.ease import EASE, EASEConfig
from contrarec.baselines.itemknn import ItemKNN, ItemKNNConfig
from contrarec.baselines.popularity import Popularity, PopularityConfig
from contrarec.config import NO_BACKBONE

__all__ = [
    "ALS",
    "BASELINES",
    "EASE",
    "ALSConfig",
    "Baseline",
    "BaselineSpec",
    "EASEConfig",
    "ItemKNN",
    "ItemKNNConfig",
    "Popularity",
    "PopularityConfig",
]


@dataclass(frozen=True)
class BaselineSpec:
    """A baseline under a name."""

    baseline: type[Baseline]
    summary: str
    source: str
    """The paper; empty where there is none to name."""
    needs: str = ""
    """What it takes beside the interactions."""
    backbones: ClassVar[tuple[str, ...]] = (NO_BACKBONE,)
    """What it goes with: it takes the place of a backbone and its loss."""

    @property
    def config(self) -> type[Any]:
        """The class of its config."""
        return self.baseline.config_class


BASELINES: dict[str, BaselineSpec] = {
    "popularity": BaselineSpec(Popularity, "everyone is offered what most users have", ""),
    "itemknn": BaselineSpec(
        ItemKNN,
        "sum of shrunk cosines with the items of the history, nearest neighbours only",
        "Deshpande and Karypis, ACM TOIS 2004",
    ),
    "ease": BaselineSpec(
        EASE,
        "ridge regression of every item on all others",
        "Steck, WWW 2019",
        needs="memory for all pairs of items",
    ),
    "als": BaselineSpec(
        ALS,
        "weighted matrix factorisation on all pairs",
        "Hu, Koren and Volinsky, ICDM 2008",
        needs="the package implicit",
    ),
}
