"""The methods that are audited: runs that differ in nothing but their seed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from contrarec import runs
from contrarec.comparison.run import Job
from contrarec.config import NO_BACKBONE
from contrarec.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A method that is audited: the runs that differ in nothing but their seed."""

    label: str
    """What it is called: the method, with its backbone where there are several."""
    backbone: str
    method: str
    folders: tuple[Path, ...]
    seeds: tuple[int, ...]


def subjects_of_jobs(jobs: Sequence[Job]) -> list[Subject]:
    """Bring the runs of each backbone and method together."""
    grouped: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        grouped.setdefault((job.backbone, job.method), []).append(job)
    return _labelled(
        [
            Subject(
                label="",
                backbone=backbone,
                method=method,
                folders=tuple(job.folder for job in ours),
                seeds=tuple(job.seed for job in ours),
            )
            for (backbone, method), ours in grouped.items()
        ]
    )


def subjects_of_runs(paths: Sequence[Path], fingerprint: str) -> list[Subject]:
    """Bring finished runs together whose settings are the same but for the seed.

    Raises:
        DataError: a folder is not a finished run, or was trained on other data.
    """
    grouped: dict[str, list[tuple[int, Path]]] = {}
    names: dict[str, tuple[str, str]] = {}
    for path in paths:
        settings, about = runs.read_settings(path)
        if not runs.is_finished(path):
            raise DataError(f"{path}: training has not finished; resume it with --resume.")
        if about.fingerprint != fingerprint:
            raise DataError(
                f"{path}: was trained on other data than {paths[0]} (fingerprint "
                f"{about.fingerprint}, got {fingerprint})."
            )
        key = replace(settings, seed=0).to_toml()
        grouped.setdefault(key, []).append((settings.seed, path))
        names[key] = (settings.backbone.name, settings.loss_name)
    return _labelled(
        [
            Subject(
                label="",
                backbone=names[key][0],
                method=names[key][1],
                folders=tuple(path for _, path in ours),
                seeds=tuple(seed for seed, _ in ours),
            )
            for key, ours in grouped.items()
        ]
    )


def _labelled(subjects: Sequence[Subject]) -> list[Subject]:
    """Give each a name of its own: method, backbone and method, or the folder of its run."""
    several = len({subject.backbone for subject in subjects} - {NO_BACKBONE}) > 1
    labels = [
        f"{subject.backbone} {subject.method}"
        if several and subject.backbone != NO_BACKBONE
        else subject.method
        for subject in subjects
    ]
    return [
        replace(subject, label=label if labels.count(label) == 1 else str(subject.folders[0]))
        for subject, label in zip(subjects, labels, strict=True)
    ]
