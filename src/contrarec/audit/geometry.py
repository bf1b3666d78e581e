"""Where the vectors lie: alignment and uniformity, and the items' two main directions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from contrarec.audit.pairs import View
from contrarec.data.interactions import Interactions
from contrarec.evaluation.protocol import GROUPS, popularity_groups
from contrarec.losses.functional import alignment, uniformity

MAX_PAIRS = 1 << 16
"""Training pairs that the alignment is measured on."""
MAX_ROWS = 2048
"""Users, and items, that the uniformity is measured on: the time grows with the square."""
MAX_POINTS = 2000
"""Items in the plane."""

DEFINITIONS = {
    "alignment": "mean squared distance of a training pair on the unit sphere, 0 to 4; low: what "
    "goes together lies together",
    "uniformity": "log of the mean of exp(−2·squared distance) over pairs of vectors on the unit "
    "sphere, −8 to 0; low: spread evenly",
    "plane": "the two main directions of the items' unit vectors, centred: principal components "
    "of all items with a training interaction",
    "explained": "share of the items' variance along each direction",
    "popularity_correlation": "Spearman's rank correlation of the place along each direction with "
    "the training count",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Plane:
    """Items in the plane of their two main directions."""

    explained: tuple[float, float]
    correlation: tuple[float, float]
    items: NDArray[np.int64]
    """`[n]` indices of the items with a training interaction."""
    points: NDArray[np.float64]
    """`[n, 2]`"""


def measure_geometry(view: View, history: Interactions, *, seed: int = 0) -> dict[str, float]:
    """Measure alignment and uniformity, on seeded samples where there is more than fits.

    Users and items without a training interaction do not count.

    Returns:
        `alignment`, `uniformity_users`, `uniformity_items`, and on how many each was measured.
    """
    rng = np.random.default_rng(seed)
    pairs = _sample(np.arange(history.nnz), MAX_PAIRS, rng)
    users = history.rows[pairs].astype(np.int64)
    items = history.indices[pairs].astype(np.int64)
    with torch.no_grad():
        cosines = (_unit(view, 0, users) * _unit(view, 1, items)).sum(1)
        found = {"alignment": float(alignment(cosines).mean()), "pairs": len(pairs)}
        for table, (name, counts) in enumerate(
            {"users": history.user_counts, "items": history.item_counts}.items()
        ):
            rows = _sample(np.flatnonzero(counts), MAX_ROWS, rng)
            found[f"uniformity_{name}"] = float(uniformity(_unit(view, table, rows)))
            found[name] = len(rows)
    return found


def main_plane(view: View, history: Interactions) -> Plane:
    """Find the items' two main directions, from a `[dim, dim]` covariance whatever the catalogue.

    The sign of a direction is such that popular items lie to its positive side.
    """
    from scipy.stats import spearmanr

    counts = history.item_counts
    items = np.flatnonzero(counts)
    with torch.no_grad():
        x = _unit(view, 1, items).double().cpu()
        x = x - x.mean(0)
        values, vectors = torch.linalg.eigh(x.T @ x)  # ascending
        points = (x @ vectors[:, [-1, -2]]).numpy()
    explained = (values.flip(0)[:2] / values.sum().clamp(min=1e-300)).tolist()
    correlation = []
    for column in range(2):
        alike = len(np.unique(counts[items])) < 2 or np.ptp(points[:, column]) == 0
        rho = 0.0 if alike else float(spearmanr(points[:, column], counts[items]).statistic)
        if rho < 0:
            points[:, column] *= -1
        correlation.append(abs(rho))
    return Plane(
        explained=(explained[0], explained[1]),
        correlation=(correlation[0], correlation[1]),
        items=items,
        points=points,
    )


def plane_rows(plane: Plane, history: Interactions, *, seed: int = 0) -> list[dict[str, Any]]:
    """List the items in the plane by their own ids, a seeded sample where they are many."""
    chosen = _sample(np.arange(len(plane.items)), MAX_POINTS, np.random.default_rng(seed))
    items = plane.items[chosen]
    group_of = popularity_groups(history.item_counts)
    return [
        {
            "item_id": item_id,
            "x": float(x),
            "y": float(y),
            "train_count": int(history.item_counts[item]),
            "group": GROUPS[group_of[item]],
        }
        for item, item_id, (x, y) in zip(
            items, history.items.take(items).to_list(), plane.points[chosen], strict=True
        )
    ]


def _unit(view: View, table: int, rows: NDArray[np.int64]) -> torch.Tensor:
    return F.normalize(view.outputs[table][torch.from_numpy(rows).to(view.device)])


def _sample(index: NDArray[np.int64], limit: int, rng: np.random.Generator) -> NDArray[np.int64]:
    if len(index) <= limit:
        return index
    return np.sort(rng.choice(index, limit, replace=False))
