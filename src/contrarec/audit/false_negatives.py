"""Does the adversary find false negatives? Its hardness against a truth, and against controls.

A sampled negative is a false one if the user likes the item all the same. In a synthetic world all
of them are known. In a log they are known where it has a test set with another exposure: a test
positive is one. Everything else counts as a true negative there, though most of it was never
asked about, which pulls every AUC towards one half.

The adversary finds false negatives if it gives them a lower δ than the other candidates of the
same user. So does a control, whose weights are set beside the adversary's at the same KL:

- `random`: a weight drawn once for each pair;
- `popularity`: p ∝ count^β, so that the rare items are judged false;
- `closed_form`: the p that raises the loss most;
- `score`: not a weighting but the opposite of one, the model's own score as a sign of a false
  negative.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrarec.audit.detectors import ADVERSARY, MIN_KL, Detectors, auc, mean_kl
from contrarec.audit.pairs import Pairs, View, dense
from contrarec.comparison.layout import decimal
from contrarec.data.interactions import Interactions
from contrarec.errors import DataError
from contrarec.evaluation.compare import bootstrap_interval, paired_tests

Floats = NDArray[np.float64]

RESAMPLES = 2_000
_FLIPS = 10_000

DEFINITIONS = {
    "false_negative": "a candidate that the user is known to like",
    "candidates": "all items outside the user's training history; held-out positives that are not "
    "part of the truth are left out",
    "auc": "chance that a false negative has a lower delta than another candidate of the same "
    "user, ties counting half; .5 is what chance gives; mean over users",
    "rate": "share of false negatives among the candidates with delta below 0; mean over users",
    "lift": "that share less the share among all candidates, over users with a delta below 0",
    "score": "the model's own score in the place of −delta, less the user's mean score",
    "kl": "the controls have the same KL to uniform as the adversary on average",
    "interval": f"95 %, bootstrap over users ({RESAMPLES} resamples)",
    "p": f"two-sided, {_FLIPS} random sign flips of the users' differences",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class FalseNegatives:
    """What each detector says of each user's candidates."""

    users: NDArray[np.int64]
    """`[n]` indices of the users with a known false negative and another candidate."""
    n_eligible: int
    base: Floats
    """`[n]` share of false negatives among a user's candidates."""
    auc: Mapping[str, Floats]
    """Detector → `[n]`."""
    rate: Mapping[str, Floats]
    """Detector → `[n]` share of false negatives where δ < 0; NaN where no δ is."""
    below: Mapping[str, Floats]
    """Detector → `[n]` share of the candidates where δ < 0."""
    n_pairs: int
    n_false: int
    kl: float
    """Mean KL of the adversary's weights to uniform, in nats, which the controls have, too."""

    def to_dict(self, *, contrasts: bool = True, seed: int = 0) -> dict[str, Any]:
        """Return means with their intervals, ready for JSON.

        Args:
            contrasts: also test the adversary's AUC against each control's and against one half.
            seed: of the resampling.
        """
        detectors = {
            name: {
                "auc": _mean(self.auc[name], seed),
                "rate": _mean(self.rate[name], seed),
                "lift": _mean(self.rate[name] - self.base, seed),
                "below_zero": float(self.below[name].mean()),
            }
            for name in self.auc
        }
        found: dict[str, Any] = {
            "users": len(self.users),
            "users_eligible": self.n_eligible,
            "pairs": self.n_pairs,
            "false_negatives": self.n_false,
            "kl": self.kl,
            "base_rate": _mean(self.base, seed),
            "detectors": detectors,
        }
        return found | ({"contrasts": self.contrasts(seed)} if contrasts else {})

    def contrasts(self, seed: int = 0) -> dict[str, dict[str, float]]:
        """Test the adversary's AUC against chance and against each control's."""
        names = [name for name in self.auc if name != ADVERSARY]
        columns = [self.auc[ADVERSARY], np.full(len(self.users), 0.5)]
        table = np.stack([*columns, *(self.auc[name] for name in names)], axis=1)
        outcomes = paired_tests(-table, n_flips=_FLIPS, n_resamples=RESAMPLES, rng=seed)
        return {
            name: {
                "difference": outcomes[0, column].difference,
                "low": outcomes[0, column].low,
                "high": outcomes[0, column].high,
                "p": outcomes[0, column].p_value,
            }
            for column, name in enumerate(["chance", *names], start=1)
        }


def find_false_negatives(
    view: View,
    pairs: Pairs,
    truth: Interactions,
    item_counts: NDArray[np.integer],
    *,
    seed: int = 0,
) -> FalseNegatives:
    """Set the adversary's δ, and that of controls, against known false negatives.

    Memory is bounded by a block of pairs.

    Args:
        view: the model.
        pairs: users who each have a false negative among their candidates (see `eligible_users`).
        truth: the known false negatives.
        item_counts: `[n_items]` training interactions.
        seed: of the random control.

    Raises:
        ConfigError: the loss weighs all negatives alike.
    """
    kl = mean_kl(view, pairs)
    weigh = Detectors(view, item_counts, max(kl, MIN_KL), seed)
    parts: dict[str, list[Floats]] = {}
    base, n_pairs, n_false = [], 0, 0
    for block in pairs.blocks():
        inside, false = ~block.out, dense(truth, block.users) & ~block.out
        base.append(false.sum(1) / inside.sum(1))
        n_pairs, n_false = n_pairs + int(inside.sum()), n_false + int(false.sum())
        for name, delta in weigh(block).items():
            below = inside & (delta < 0)
            n_below = below.sum(1)
            rate = np.full(len(below), np.nan)
            np.divide((below & false).sum(1), n_below, out=rate, where=n_below > 0)
            columns = np.stack([auc(-delta, false, inside), rate, n_below / inside.sum(1)], axis=1)
            parts.setdefault(name, []).append(columns)
    tables = {name: np.concatenate(found) for name, found in parts.items()}
    return FalseNegatives(
        users=pairs.users,
        n_eligible=pairs.n_eligible,
        base=np.concatenate(base),
        auc={name: table[:, 0] for name, table in tables.items()},
        rate={name: table[:, 1] for name, table in tables.items()},
        below={name: table[:, 2] for name, table in tables.items()},
        n_pairs=n_pairs,
        n_false=n_false,
        kl=kl,
    )


def eligible_users(
    truth: Interactions, left_out: Interactions, history: Interactions
) -> NDArray[np.int64]:
    """Return the users with a training history, a false negative and another candidate.

    Args:
        truth: the known false negatives.
        left_out: what is no candidate; nothing of the truth.
        history: the training interactions.

    Raises:
        DataError: there is none.
    """
    n_false = truth.user_counts
    others = truth.n_items - left_out.user_counts - n_false
    users = np.flatnonzero((history.user_counts > 0) & (n_false > 0) & (others > 0))
    if not len(users):
        raise DataError("no user with a training history has a known false negative.")
    return users


def verdict(found: Mapping[str, Any]) -> str:
    """Say in words whether the adversary finds false negatives.

    Args:
        found: `FalseNegatives.to_dict()`.

    >>> contrasts = {"chance": {"difference": -0.04, "low": -0.05, "high": -0.03},
    ...              "random": {"difference": 0.01, "low": -0.02, "high": 0.04}}
    >>> adversary = {"auc": {"mean": 0.46, "low": 0.45, "high": 0.47},
    ...              "lift": {"mean": None, "low": None, "high": None}}
    >>> verdict({"detectors": {"adversary": adversary}, "contrasts": contrasts})
    'Worse than chance: AUC .460 [.450, .470]. Beside the controls: no different from random.'
    """
    adversary, contrasts = found["detectors"][ADVERSARY], dict(found["contrasts"])
    auc_text = "AUC " + _interval(adversary["auc"])
    chance = {1: "Better than", -1: "Worse than", 0: "No different from"}
    sentences = [f"{chance[_sign(contrasts.pop('chance'))]} chance: {auc_text}."]
    lift = adversary["lift"]
    if lift["mean"] is not None:
        more = {1: "more", -1: "fewer", 0: "neither more nor fewer"}[_sign(lift)]
        sentences.append(
            f"Where it judges a candidate false (delta < 0), there are {more} false negatives "
            f"than among all: {_interval(lift, '+', 4)}."
        )
    words = {1: "better than", -1: "worse than", 0: "no different from"}
    sides = [
        f"{words[sign]} {', '.join(names)}"
        for sign in words
        if (names := [n.replace("_", " ") for n, c in contrasts.items() if _sign(c) == sign])
    ]
    return " ".join([*sentences, f"Beside the controls: {'; '.join(sides)}."])


def _sign(interval: Mapping[str, float]) -> int:
    return int(interval["low"] > 0) - int(interval["high"] < 0)


def _interval(found: Mapping[str, float], sign: str = "", digits: int = 3) -> str:
    mean, low, high = (decimal(found[key], sign, digits) for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def _mean(values: Floats, seed: int) -> dict[str, float | None]:
    """Return the mean over the users that count, with its interval; None where none counts."""
    if np.isnan(values).all():
        return {"mean": None, "low": None, "high": None}
    low, high = bootstrap_interval(values, n_resamples=RESAMPLES, rng=seed)
    return {"mean": float(np.nanmean(values)), "low": float(low), "high": float(high)}
