"""What an audit found, in plain values."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from contrarec.audit import contrast, distribution, shift, unbiased
from contrarec.audit.contrast import Difference, Estimate
from contrarec.audit.shift import SetInfo
from contrarec.audit.unbiased import Unbiased
from contrarec.evaluation.metrics import DEFINITIONS as METRIC_DEFINITIONS
from contrarec.evaluation.protocol import POLICIES
from contrarec.files import write_text

FILE = "audit.json"


@dataclass(frozen=True, kw_only=True)
class MethodResult:
    """A method on all sets."""

    label: str
    backbone: str
    method: str
    runs: tuple[dict[str, Any], ...]
    """Per seed: `run`, `seed`, `best_epoch`, `epochs`, `seconds`, `stopped`, `adversary_passes`."""
    metrics: dict[str, dict[str, Estimate]]
    """Set → metric → mean over users, with its interval."""
    groups: dict[str, dict[str, Estimate]]
    """Set → popularity group → recall of the group's positives; a group without any is left out."""
    lists: dict[str, dict[str, Estimate]]
    """Set → what the lists are made of; `coverage` and `gini` have no interval (NaN)."""
    overall: dict[str, dict[str, Estimate]]
    """Tested metric → mean over the shifted sets, and the share of quality kept, if there are."""
    unbiased: dict[str, tuple[Unbiased, ...]]
    """Weighed set → figures over positives."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        nested = {
            name: {
                place: {key: value.to_dict() for key, value in values.items()}
                for place, values in getattr(self, name).items()
            }
            for name in ("metrics", "groups", "lists", "overall")
        }
        weighed = {name: [found.to_dict() for found in v] for name, v in self.unbiased.items()}
        about = {name: getattr(self, name) for name in ("label", "backbone", "method")}
        return about | {"runs": list(self.runs)} | nested | {"unbiased": weighed}


@dataclass(frozen=True, kw_only=True)
class Weighing:
    """How the positives of a set were weighed."""

    set: str
    source: str
    absolute: bool
    """Whether propensities are probabilities, so that there are IPS figures."""
    clip: float
    clipped: float
    """Share of the positives that the clip changed."""
    positives: int
    effective: float
    """Kish's effective sample size."""
    small: bool
    """Whether that is too small to say much."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What happens to the quality of several methods when popularity shifts."""

    data: str
    fingerprint: str
    kind: str
    """`log`: trained on what was left of a log; `data`: trained on data that were split before;
    `runs`: trained before."""
    k: int
    headline: tuple[str, ...]
    """Metrics that are tested; the first one decides."""
    reference: str | None
    """The in-distribution set."""
    sets: tuple[SetInfo, ...]
    methods: tuple[MethodResult, ...]
    differences: tuple[Difference, ...]
    """Every pair of methods on every set and metric, once."""
    weighing: tuple[Weighing, ...]
    settings: Mapping[str, Any]
    """What was asked for, and how the methods were trained."""
    notes: tuple[str, ...] = field(default=())
    summary: tuple[str, ...] = field(default=())

    @property
    def shifted(self) -> tuple[str, ...]:
        """The sets that are not in distribution, and not more popular than training."""
        return tuple(info.name for info in self.sets if info.role == shift.SHIFTED)

    def difference(self, method: str, against: str, where: str, metric: str) -> Difference | None:
        """Find a difference, from the side of `method`."""
        for found in self.differences:
            if (found.where, found.metric) == (where, metric):
                if (found.method, found.against) == (method, against):
                    return found
                if (found.against, found.method) == (method, against):
                    return found.reversed()
        return None

    def definitions(self) -> dict[str, str]:
        """Say how the figures are to be read."""
        kinds = dict.fromkeys(
            metric.partition("@")[0] for metric in next(iter(self.methods[0].metrics.values()))
        )
        figures = {name: METRIC_DEFINITIONS[name] for name in kinds} | distribution.DEFINITIONS
        weighed = {f"unbiased {name}": text for name, text in unbiased.DEFINITIONS.items()}
        policies = {name: POLICIES[name] for name in ("users", "unreachable", "ties", "groups")}
        return (
            figures
            | shift.DEFINITIONS
            | contrast.DEFINITIONS
            | policies
            | (weighed if self.weighing else {})
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON; no per-user values."""
        return {
            "data": self.data,
            "fingerprint": self.fingerprint,
            "kind": self.kind,
            "k": self.k,
            "headline": list(self.headline),
            "in_distribution": self.reference,
            "shifted": list(self.shifted),
            "summary": list(self.summary),
            "sets": [info.to_dict() for info in self.sets],
            "methods": [method.to_dict() for method in self.methods],
            "differences": [difference.to_dict() for difference in self.differences],
            "weighing": [weighing.to_dict() for weighing in self.weighing],
            "settings": dict(self.settings),
            "definitions": self.definitions(),
            "notes": list(self.notes),
        }

    def save(self, folder: Path) -> None:
        """Write `audit.json`, atomically; what is not a number becomes null."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_finite(self.to_dict()), indent=1, allow_nan=False)
        write_text(folder / FILE, text + "\n")


def _finite(value: Any) -> Any:
    """Replace NaN and infinities by None."""
    if isinstance(value, Mapping):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
