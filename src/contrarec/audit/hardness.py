"""Hardness: what weights the adversary gives to which negatives.

The hardness of a negative is `δ = log(n·p)`, p being its weight among the n candidates of a user:
0 without an adversary. Above 0 the negative is pushed away harder; below 0 the adversary judges it
a probable false negative.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contrarec.audit.pairs import Pairs, View, deltas
from contrarec.data.interactions import Interactions
from contrarec.evaluation.protocol import GROUPS, popularity_groups
from contrarec.losses.functional import kl_to_uniform

QUANTILES = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}

DEFINITIONS = {
    "delta": "log(n·p), p being a negative's weight among the n candidates of a user: all items "
    "outside the user's training history",
    "kl": "Kullback–Leibler divergence of a user's weights from uniform, in nats; over users",
    "weight": "share of the users' weight that a group's candidates hold",
    "uniform": "what that share would be if all candidates weighed the same",
    "below_zero": "share of the pairs with delta below 0: judged false negatives",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Hardness:
    """The hardness of all pairs that were looked at."""

    kl: NDArray[np.float64]
    """`[users]` KL of each user's weights from uniform, in nats."""
    groups: dict[str, dict[str, float]]
    """Popularity group → figures on its pairs' δ."""
    item_delta: NDArray[np.float64]
    """`[n_items]` mean δ of each item over the users; NaN for one that is nobody's candidate."""
    n_pairs: int
    n_eligible: int

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, ready for JSON; nothing per item."""
        return {
            "users": len(self.kl),
            "users_eligible": self.n_eligible,
            "pairs": self.n_pairs,
            "kl": {
                "mean": float(self.kl.mean()),
                **_quantiles(self.kl),
                "max": float(max(self.kl)),
            },
            "groups": self.groups,
        }


def measure_hardness(view: View, pairs: Pairs, item_counts: NDArray[np.integer]) -> Hardness:
    """Measure the distribution of δ per popularity group, and the KL per user.

    Memory is that of the pairs' δ, at most `MAX_PAIRS` numbers, and a block of scores.

    Args:
        view: the model.
        pairs: whom and what to look at.
        item_counts: `[n_items]` training interactions.

    Raises:
        ConfigError: the loss weighs all negatives alike.
    """
    group_of = popularity_groups(item_counts)
    parts: list[list[NDArray[np.float32]]] = [[] for _ in GROUPS]
    kl, weight, uniform = [], np.zeros(len(GROUPS)), np.zeros(len(GROUPS))
    total, count = np.zeros(len(item_counts)), np.zeros(len(item_counts), np.int64)
    for block in pairs.blocks():
        log_p = view.log_p(block, view.scores(block.users))
        kl.append(kl_to_uniform(log_p, torch.from_numpy(block.out).to(log_p.device)).cpu().numpy())
        delta, inside = deltas(log_p, block.out), ~block.out
        n = inside.sum(1, keepdims=True)
        p = np.exp(delta, dtype=np.float64) / n  # 0 for what is no candidate
        total += np.where(inside, delta, 0).sum(0, dtype=np.float64)
        count += inside.sum(0)
        for group, values in enumerate(parts):
            mine = group_of == group
            values.append(delta[:, mine][inside[:, mine]])
            weight[group] += p[:, mine].sum()
            uniform[group] += (inside[:, mine] / n).sum()
    groups = {
        name: {
            "items": int((group_of == group).sum()),
            "pairs": sum(map(len, parts[group])),
            "weight": float(weight[group] / len(pairs.users)),
            "uniform": float(uniform[group] / len(pairs.users)),
            **_figures(np.concatenate(parts[group])),
        }
        for group, name in enumerate(GROUPS)
    }
    return Hardness(
        kl=np.concatenate(kl).astype(np.float64),
        groups={name: figures for name, figures in groups.items() if figures["pairs"]},
        item_delta=np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0),
        n_pairs=int(count.sum()),
        n_eligible=pairs.n_eligible,
    )


def list_items(found: Hardness, history: Interactions, k: int) -> dict[str, list[dict[str, Any]]]:
    """List the k items that weigh most and least on average, by their own ids.

    Returns:
        `hardest` and `judged_false`; the latter only where the mean δ is below 0.
    """
    known = np.flatnonzero(np.isfinite(found.item_delta))
    order = known[np.argsort(-found.item_delta[known], kind="stable")]
    least = [item for item in order[::-1] if found.item_delta[item] < 0]
    lists = {"hardest": order[:k], "judged_false": np.array(least[:k], np.int64)}
    return {
        name: _item_rows(items, found.item_delta[items], history) for name, items in lists.items()
    }


def list_pairs(
    view: View, users: NDArray[np.int64], history: Interactions, k: int
) -> list[dict[str, Any]]:
    """List each user's k hardest negatives, and the k that are most surely judged false.

    Args:
        view: the model.
        users: indices of the users.
        history: what is no candidate; its vocabularies have the ids.
        k: of each.

    Returns:
        A mapping per user: `user_id`, `hardest`, `judged_false`.
    """
    rows = []
    pairs = Pairs(users=users, n_eligible=len(users), left_out=history)
    for block in pairs.blocks():
        delta = deltas(view.log_p(block, view.scores(block.users)), block.out)
        order = np.argsort(-delta, axis=1, kind="stable")  # what is left out comes last
        n_inside = (~block.out).sum(1)
        for row, user in enumerate(block.users):
            best, least = order[row, : min(k, n_inside[row])], order[row, : n_inside[row]][::-1][:k]
            least = least[delta[row, least] < 0]
            rows.append(
                {
                    "user_id": history.users.ids[int(user)],
                    "hardest": _item_rows(best, delta[row, best], history),
                    "judged_false": _item_rows(least, delta[row, least], history),
                }
            )
    return rows


def _item_rows(
    items: NDArray[np.integer], delta: NDArray[np.floating], history: Interactions
) -> list[dict[str, Any]]:
    group_of = popularity_groups(history.item_counts)
    return [
        {
            "item_id": item_id,
            "delta": float(value),
            "train_count": int(history.item_counts[item]),
            "group": GROUPS[group_of[item]],
        }
        for item, item_id, value in zip(
            items, history.items.take(items).to_list(), delta, strict=True
        )
    ]


def _figures(values: NDArray[np.float32]) -> dict[str, float]:
    if not len(values):
        return {}
    return {
        "mean": float(values.mean(dtype=np.float64)),
        "sd": float(values.std(dtype=np.float64)),
        **_quantiles(values),
        "below_zero": float((values < 0).mean()),
    }


def _quantiles(values: Sequence[float] | NDArray[np.floating]) -> dict[str, float]:
    return dict(
        zip(QUANTILES, map(float, np.quantile(values, list(QUANTILES.values()))), strict=True)
    )
