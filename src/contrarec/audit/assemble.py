"""From what was measured to the result of an audit."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from contrarec import runs
from contrarec.audit import distribution, unbiased
from contrarec.audit.config import AuditConfig
from contrarec.audit.contrast import Estimate, UserTable, set_figures
from contrarec.audit.measure import GROUP_METRIC, MeasuredSet, measure_subject
from contrarec.audit.plan import Plan
from contrarec.audit.result import Audit, MethodResult, Weighing
from contrarec.audit.shift import SHIFTED, describe_sets, measured_sets
from contrarec.audit.subjects import Subject
from contrarec.audit.summary import summarise
from contrarec.data.dataset import Dataset
from contrarec.evaluation.protocol import GROUPS
from contrarec.training.metrics_log import read_log

SHOWN = ("recall", "ndcg", "hit")
"""Kinds of metrics in the result, at its cutoff."""


def measure_all(
    plan: Plan,
    subjects: Sequence[Subject],
    headline: tuple[str, ...],
    config: AuditConfig,
    settings: Mapping[str, Any],
    device: str,
) -> Audit:
    """Measure every method on every set, and put the result together."""
    k = int(headline[0].partition("@")[2])
    measured = {
        subject.label: measure_subject(
            subject,
            plan.measured,
            reference=plan.reference,
            k=k,
            device=device,
            weights=plan.weights,
        )
        for subject in subjects
    }
    sets = describe_sets(plan.measured, plan.data, plan.reference, _accounts(plan.data))
    names = tuple(info.name for info in sets)
    shifted = tuple(info.name for info in sets if info.role == SHIFTED)
    table = UserTable(
        {info.name: measured[subjects[0].label][info.name].users for info in sets},
        {
            (label, name, figure): found.per_user[figure]
            for label, by_set in measured.items()
            for name, found in by_set.items()
            for figure in _figures(k)
        },
    )
    audit = Audit(
        data=plan.data.name,
        fingerprint=plan.data.fingerprint(),
        kind=plan.kind,
        k=k,
        headline=headline,
        reference=plan.reference,
        sets=sets,
        methods=tuple(
            _method(subject, measured[subject.label], table, headline, plan, (names, shifted))
            for subject in subjects
        ),
        differences=tuple(
            difference
            for metric in headline
            for difference in table.differences(
                [subject.label for subject in subjects], metric, names, plan.reference, shifted
            )
        ),
        weighing=_weighing(plan),
        settings=dict(settings) | _asked(config),
        notes=plan.data.notes + _notes(plan, config),
    )
    return replace(audit, summary=summarise(audit))


def _figures(k: int) -> tuple[str, ...]:
    groups = (f"{GROUP_METRIC}@{k} {name}" for name in GROUPS)
    lists = (*distribution.SHARES, distribution.PERCENTILE)
    return (*(f"{kind}@{k}" for kind in SHOWN), *groups, *lists)


def _course(folder: Path) -> dict[str, Any]:
    """Say how a run was trained, and how often its adversary had moved in the weights it kept."""
    result = runs.read_result(folder)
    course = {name: result[name] for name in ("best_epoch", "epochs", "seconds", "stopped")}
    loss = runs.read_settings(folder)[0].loss
    if getattr(loss, "hardness", "closed_form") == "closed_form":  # nothing that learns
        return course | {"adversary_passes": None}
    kept = next(
        (
            line["adversary_passes"]
            for line in read_log(folder / "metrics.jsonl")
            if line["epoch"] == result["best_epoch"]
        ),
        None,
    )
    return course | {"adversary_passes": kept}


def _method(
    subject: Subject,
    measured: Mapping[str, MeasuredSet],
    table: UserTable,
    headline: tuple[str, ...],
    plan: Plan,
    sets: tuple[tuple[str, ...], tuple[str, ...]],
) -> MethodResult:
    k = int(headline[0].partition("@")[2])

    def estimates(name: str, figures: Mapping[str, str]) -> dict[str, Estimate]:
        """Estimates on one set, by their names in the result."""
        by_seed = measured[name].by_seed
        return {
            key: table.estimate([(subject.label, name, figure)], sd=_spread(by_seed[figure]))
            for key, figure in figures.items()
            if (subject.label, name, figure) in table
        }

    def whole(name: str, figure: str) -> Estimate:
        values = measured[name].by_seed[figure]
        return Estimate(mean=float(np.mean(values)), low=np.nan, high=np.nan, sd=_spread(values))

    ordered, shifted = sets
    metrics = {f"{kind}@{k}": f"{kind}@{k}" for kind in SHOWN}
    profile = {name: name for name in (*distribution.SHARES, distribution.PERCENTILE)}
    return MethodResult(
        label=subject.label,
        backbone=subject.backbone,
        method=subject.method,
        runs=tuple(
            {"run": str(folder), "seed": seed} | _course(folder)
            for folder, seed in zip(subject.folders, subject.seeds, strict=True)
        ),
        metrics={name: estimates(name, metrics) for name in ordered},
        groups={
            name: estimates(name, {group: f"{GROUP_METRIC}@{k} {group}" for group in GROUPS})
            for name in ordered
        },
        lists={
            name: estimates(name, profile)
            | {figure: whole(name, figure) for figure in (distribution.COVERAGE, distribution.GINI)}
            for name in ordered
        },
        overall={
            metric: {
                where: table.estimate([(subject.label, name, metric) for name in ordered], figure)
                for where, figure in set_figures(ordered, plan.reference, shifted).items()
                if where not in ordered
            }
            for metric in headline
        },
        unbiased={
            name: unbiased.unbiased_metrics(
                *found.sums, found.users, plan.measured.parts[name], plan.weights[name], k
            )
            for name, found in measured.items()
            if found.sums is not None
        },
    )


def _spread(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _weighing(plan: Plan) -> tuple[Weighing, ...]:
    if plan.propensities is None:
        return ()
    return tuple(
        Weighing(
            set=name,
            source=plan.propensities.source,
            absolute=plan.propensities.absolute,
            clip=weights.clip,
            clipped=weights.clipped,
            positives=len(weights.values),
            effective=weights.effective,
            small=weights.small,
        )
        for name, weights in plan.weights.items()
    )


def _accounts(data: Dataset) -> dict[str, str]:
    """Return what `Dataset.split` noted of each set."""
    known = {step.partition(": ")[0]: step.partition(": ")[2] for step in data.steps}
    return {name: known[name] for name in data.parts if name in known}


def _asked(config: AuditConfig) -> dict[str, Any]:
    values = {name: getattr(config, name) for name in ("share", "split_seed", "max_users", "clip")}
    return values | {"gamma": None if config.propensities or config.column else config.gamma}


def _notes(plan: Plan, config: AuditConfig) -> tuple[str, ...]:
    notes = []
    for name, part in plan.measured.parts.items():
        everyone = plan.data.parts[name].user_counts
        if (
            name in measured_sets(plan.data, plan.reference)
            and (part.user_counts > 0).sum() < (everyone > 0).sum()
        ):
            notes.append(
                f"{name}: measured on {config.max_users} of {(everyone > 0).sum()} users, drawn at "
                "random"
            )
    for name, weights in plan.weights.items():
        if weights.small:
            notes.append(
                f"{name}: the weighed positives are worth {weights.effective:.0f} of "
                f"{len(weights.values)}, too few to say much"
            )
    return tuple(notes)
