"""Which method is best, and which ones no other beats significantly."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contrarec.config import NO_BACKBONE

if TYPE_CHECKING:
    from contrarec.comparison.table import Contrast, Row

SIGNIFICANT = 0.05
"""What a corrected p-value is at most where one method beats another."""


@dataclass(frozen=True, kw_only=True)
class Leaders:
    """The methods at the top, of one backbone, on one test set and metric."""

    backbone: str
    test: str
    metric: str
    best: str
    """The method with the highest mean."""
    methods: tuple[str, ...]
    """Those that no other method beats significantly, the best one first."""


def find_leaders(
    rows: Sequence["Row"], contrasts: Sequence["Contrast"], metrics: Sequence[str]
) -> Iterator[Leaders]:
    """Find the leaders of every backbone, test set and metric.

    Baselines stand beside the methods of every backbone.

    A method is beaten by one that is better with a p-value of at most `SIGNIFICANT`, corrected for
    all contrasts to the former. So the truly best method is kept with a chance of at least 95 %.
    """
    beaten = {
        (c.backbone, c.test, c.metric, c.against)
        for c in contrasts
        if c.difference > 0 and c.p_holm <= SIGNIFICANT
    }
    named = dict.fromkeys(row.backbone for row in rows)
    for backbone in [name for name in named if name != NO_BACKBONE] or named:
        places = (backbone, NO_BACKBONE)
        ours = [row for row in rows if row.backbone in places]
        for test in ours[0].values:
            for metric in metrics:
                means = {row.method: row.summary(test, metric)[0] for row in ours}
                ordered = sorted(means, key=lambda method: -means[method])
                yield Leaders(
                    backbone=backbone,
                    test=test,
                    metric=metric,
                    best=ordered[0],
                    methods=tuple(
                        method
                        for method in ordered
                        if not any((p, test, metric, method) in beaten for p in places)
                    ),
                )
