"""Variants of AdvInfoNCE: a method, with settings of its own.

Two sets of them:

- the ablation takes parts away or puts controls in their place;
- the intensity study makes the adversary weaker and stronger: by how long it is trained, by its
  step size, and by an enforced KL budget.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from contrarec.errors import ConfigError, unknown
from contrarec.losses.advinfonce import AdvInfoNCEConfig

Changes = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A method, with what is changed of its settings."""

    name: str
    method: str
    what: str
    """In words."""
    changes: Callable[[AdvInfoNCEConfig], Changes] = lambda _: {}
    """Settings, from those of `advinfonce` on the same backbone."""


def _few(base: AdvInfoNCEConfig) -> Changes:
    return {"adv_passes": max(1, base.adv_passes // 4)}


def _many(base: AdvInfoNCEConfig) -> Changes:
    return {"adv_epochs": 4 * base.adv_epochs, "adv_passes": 4 * base.adv_passes}


def _eta(eta: float) -> Variant:
    what = f"an enforced budget of {eta:g} nats in the place of a number of passes"
    return Variant(
        name=f"eta-{eta:g}", method="advinfonce-budget", what=what, changes=lambda _: {"eta": eta}
    )


ABLATION: tuple[Variant, ...] = (
    Variant(name="advinfonce", method="advinfonce", what="as set: tables of its own"),
    Variant(name="infonce", method="infonce", what="no weights, no factor on the negatives"),
    Variant(name="infonce-kneg", method="infonce-kneg", what="no weights, the negatives' sum × 64"),
    Variant(name="infonce-random", method="infonce-random", what="× 64 and random weights"),
    Variant(
        name="infonce-popularity", method="infonce-popularity", what="× 64, weights by popularity"
    ),
    Variant(name="advinfonce-closed", method="advinfonce-closed", what="the best answer itself"),
    Variant(name="advinfonce-mlp", method="advinfonce-mlp", what="MLPs on the model's tables"),
    Variant(
        name="advinfonce-few", method="advinfonce", what="a quarter of the passes", changes=_few
    ),
    Variant(
        name="advinfonce-many",
        method="advinfonce",
        what="four times the passes, in as many turns",
        changes=_many,
    ),
    Variant(name="advinfonce-budget", method="advinfonce-budget", what="an enforced KL budget"),
)
"""The first is what the others are tested against."""

INTENSITY: tuple[Variant, ...] = (
    Variant(
        name="passes-0",
        method="advinfonce",
        what="an adversary that stays as it was drawn",
        changes=lambda _: {"adv_passes": 0},
    ),
    Variant(name="passes-few", method="advinfonce", what="a quarter of the passes", changes=_few),
    Variant(name="as-set", method="advinfonce", what="the settings as they are"),
    Variant(
        name="passes-many",
        method="advinfonce",
        what="four times the passes, in as many turns",
        changes=_many,
    ),
    Variant(
        name="lr-tenth",
        method="advinfonce",
        what="a tenth of the adversary's step size",
        changes=lambda base: {"adv_lr": base.adv_lr / 10},
    ),
    Variant(
        name="lr-tenfold",
        method="advinfonce",
        what="ten times the adversary's step size",
        changes=lambda base: {"adv_lr": base.adv_lr * 10},
    ),
    *map(_eta, (0.01, 0.05, 0.2, 1.0)),
)

STUDIES = {"ablation": ABLATION, "intensity": INTENSITY}


def choose_variants(study: str, names: Sequence[str] | None) -> tuple[Variant, ...]:
    """Return the variants of a study, or those that are named, in the order of the study.

    Raises:
        ConfigError: a name is unknown.
    """
    known = {variant.name: variant for variant in STUDIES[study]}
    for name in names or ():
        if name not in known:
            raise ConfigError(unknown("variant", name, known))
    return tuple(variant for name, variant in known.items() if names is None or name in names)
