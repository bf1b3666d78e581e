"""Baselines: what any method is expected to beat, fitted in closed form or by a library."""

from typing import Any, NamedTuple

from contrarec.baselines.als import ALS, ALSConfig
from contrarec.baselines.base import Baseline
from contrarec.baselines.ease import EASE, EASEConfig
from contrarec.baselines.itemknn import ItemKNN, ItemKNNConfig
from contrarec.baselines.popularity import Popularity, PopularityConfig

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


class BaselineSpec(NamedTuple):
    """A baseline under a name."""

    baseline: type[Baseline]
    config: type[Any]
    source: str
    summary: str


BASELINES: dict[str, BaselineSpec] = {
    "popularity": BaselineSpec(
        Popularity, PopularityConfig, "textbook", "everyone is offered what most users have"
    ),
    "itemknn": BaselineSpec(
        ItemKNN,
        ItemKNNConfig,
        "Deshpande and Karypis, ACM TOIS 2004",
        "sum of shrunk cosines with the items of the history, nearest neighbours only",
    ),
    "ease": BaselineSpec(
        EASE, EASEConfig, "Steck, WWW 2019", "ridge regression of each item on all others"
    ),
    "als": BaselineSpec(
        ALS,
        ALSConfig,
        "Hu, Koren and Volinsky, ICDM 2008",
        "weighted matrix factorisation on all pairs, by the library implicit",
    ),
}
