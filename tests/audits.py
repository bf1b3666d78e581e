"""Results of audits that are made up, for tests of what is said and drawn of them."""

from typing import Any

from contrarec.audit.contrast import KEPT, SHIFTED, Difference, Estimate
from contrarec.audit.result import Audit, MethodResult, Weighing
from contrarec.audit.shift import SetInfo
from contrarec.audit.unbiased import Unbiased

M = "recall@20"
WEIGHING = Weighing(
    set="id", source="made up", absolute=False, clip=0.01, clipped=0.25, positives=300,
    effective=47.0, small=True,
)  # fmt: skip


def estimate(mean: float) -> Estimate:
    return Estimate(mean=mean, low=mean - 0.01, high=mean + 0.01)


def set_info(name: str, role: str = "shifted") -> SetInfo:
    return SetInfo(
        name=name, role=role, how="made up", n_users=100, n_measured=100, n_positives=300,
        shift=0.5, popularity_kl=0.6, head_share=0.2, mean_percentile=60.0, unseen_users=0,
        unseen_items=0, masked=("train",),
    )  # fmt: skip


def method(name: str, inside: float, one: float, two: float) -> MethodResult:
    lists = {"head_share": estimate(0.4), "coverage": estimate(0.7), "gini": estimate(0.5)}
    sets = {"id": inside, "g2": one, "uniform": two}
    return MethodResult(
        label=name,
        backbone="mf",
        method=name,
        runs=(
            {
                "run": name,
                "seed": 0,
                "best_epoch": 4,
                "epochs": 9,
                "stopped": "patience",
                "adversary_passes": None,
            },
        ),
        metrics={place: {M: estimate(value)} for place, value in sets.items()},
        groups={
            place: {"head": estimate(2 * value), "tail": estimate(value / 2)}
            for place, value in sets.items()
        },
        lists=dict.fromkeys(sets, lists),
        overall={
            M: {
                SHIFTED: estimate((one + two) / 2),
                KEPT: Estimate(mean=(one + two) / 2 / inside, low=0.1, high=0.9),
            }
        },
        unbiased={
            "id": (
                Unbiased(
                    metric=M, plain=(inside, 0.1, 0.9), snips=(inside / 2, 0.1, 0.9), ips=None
                ),
            )
        },
    )


def audit(
    methods: list[MethodResult], sure: dict[tuple[str, str, str], float], **more: Any
) -> Audit:
    """An audit; p is 1 but for the (method, against, where) that are named."""
    differences = []
    for number, one in enumerate(methods):
        for other in methods[number + 1 :]:
            for where in ("id", "g2", "uniform", SHIFTED, KEPT):
                values = [
                    (m.overall[M] | {name: v[M] for name, v in m.metrics.items()})[where].mean
                    for m in (one, other)
                ]
                p = sure.get((one.label, other.label, where), 1.0)
                gap = values[1] - values[0]
                differences.append(
                    Difference(
                        method=other.label, against=one.label, where=where, metric=M,
                        difference=gap, low=gap - 0.015, high=gap + 0.015, p=p, p_holm=p,
                    )
                )  # fmt: skip
    values: dict[str, Any] = {
        "data": "made-up", "fingerprint": "0", "kind": "log", "k": 20, "headline": (M,),
        "reference": "id",
        "sets": (set_info("id", "in distribution"), set_info("g2"), set_info("uniform")),
        "methods": tuple(methods), "differences": tuple(differences), "weighing": (WEIGHING,),
        "settings": {"preset": "mine"},
    }  # fmt: skip
    return Audit(**(values | more))
