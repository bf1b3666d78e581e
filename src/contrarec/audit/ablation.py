"""What each part of AdvInfoNCE brings: its variants and controls, compared on the same data.

Each variant is trained as `comparison` trains a method, a folder per run, so a study can be stopped
and started again; the variants are then tested against each other as methods are.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from contrarec import runs
from contrarec.audit.variants import ABLATION, INTENSITY, Changes, Variant
from contrarec.comparison.layout import decimal, markdown_table
from contrarec.comparison.measure import (
    FLIPS,
    RESAMPLES,
    Measured,
    contrasts,
    measure,
    summarise,
)
from contrarec.comparison.run import Job, compare, own_overrides, run_folder
from contrarec.comparison.table import Comparison
from contrarec.data.dataset import Dataset
from contrarec.errors import DataError
from contrarec.files import write_text
from contrarec.settings import resolve_settings
from contrarec.training.loop import Hooks
from contrarec.training.metrics_log import read_log


@dataclass(frozen=True, kw_only=True)
class Study:
    """A comparison of variants, and how far their weights went from uniform."""

    name: str
    comparison: Comparison
    variants: tuple[dict[str, Any], ...]
    """Per backbone and variant: `backbone`, `name`, `method`, `what`, `changes`, and `kl`, the mean
    over users at the kept epoch, averaged over seeds; None without weights."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        about = {"study": self.name, "variants": list(self.variants)}
        return about | self.comparison.to_dict()

    def to_markdown(self) -> str:
        """Return the tables of the comparison, and one of the variants."""
        rows = [
            {
                "backbone": row["backbone"],
                "variant": row["name"],
                "what": row["what"],
                "settings": ", ".join(f"{k} {v:g}" for k, v in row["changes"].items()),
                "KL, nats": "" if row["kl"] is None else decimal(row["kl"]),
            }
            for row in self.variants
        ]
        return f"{self.comparison.to_markdown()}\n{markdown_table(rows)}\n"

    def save(self, folder: Path) -> None:
        """Write `<study>.md`, `.csv` and `.json`, each atomically."""
        text = json.dumps(self.to_dict(), indent=1, ensure_ascii=False)
        write_text(folder / f"{self.name}.json", text + "\n")
        write_text(folder / f"{self.name}.md", self.to_markdown())
        write_text(folder / f"{self.name}.csv", self.comparison.to_csv())


def run_study(
    study: str,
    data: Dataset,
    variants: Sequence[Variant],
    backbones: Sequence[str] = ("mf",),
    seeds: Sequence[int] = (0, 1, 2),
    *,
    out: Path,
    preset: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    device: str = "auto",
    watch: Callable[[Job], AbstractContextManager[Hooks | None]] | None = None,
) -> Study:
    """Train every (variant, backbone, seed) that is not finished, and test the variants.

    Args:
        study: name of the study.
        data: with at least one test set.
        variants: the first is what the table tests the others against.
        backbones: each variant is run on each.
        seeds: each variant is trained once with each.
        out: folder; a variant's runs are in the folder of its name.
        preset: published settings, or a preset file.
        overrides: settings for all, or under the name of a variant, method or backbone; what a
            variant changes wins.
        device: `auto`, `cpu` or `cuda`.
        watch: surrounds each run; the hooks it gives go to its training.

    Raises:
        ConfigError, DataError: as `comparison.compare`; every setting is looked at before the
            first run.
        KeyboardInterrupt: training was interrupted; the same call goes on.
    """
    if not data.tests:
        raise DataError(f"{data.name}: nothing to compare on, the data have no test set.")
    plan = _plan(variants, backbones, preset, overrides or {})
    found: dict[tuple[str, str], list[Measured]] = {}
    about: list[dict[str, Any]] = []
    for number, ((backbone, name), (variant, settings, changes)) in enumerate(plan.items()):

        def watched(
            job: Job, name: str = name, before: int = number * len(seeds)
        ) -> AbstractContextManager[Hooks | None]:
            total = len(plan) * len(seeds)
            shown = replace(job, method=name, number=before + job.number, total=total)
            return watch(shown) if watch else nullcontext()

        made = compare(
            data,
            [variant.method],
            [backbone],
            seeds,
            out=out / name,
            preset=preset,
            overrides=settings,
            device=device,
            watch=watched,
        )
        folders = [run_folder(out / name, backbone, variant.method, seed) for seed in seeds]
        ks = runs.read_settings(folders[0])[0].training.ks
        found[backbone, name] = [measure(f, data, ks, made.headline, device) for f in folders]
        about.append(
            {
                "backbone": backbone,
                "name": name,
                "method": variant.method,
                "what": variant.what,
                "changes": changes,
                "kl": kept_kl(folders),
            }
        )
    names = tuple(variant.name for variant in variants)
    first = next(iter(found.values()))[0].per_user
    comparison = replace(
        made,
        overrides=dict(overrides or {}),
        methods=names,
        backbones=tuple(backbones),
        n_users={test: len(first[test, made.headline[0]]) for test in data.tests},
        n_resamples=RESAMPLES,
        n_flips=FLIPS,
        rows=tuple(summarise(pair, seeds, measured) for pair, measured in found.items()),
        contrasts=tuple(contrasts(found, backbones, names)),
    )
    return Study(name=study, comparison=comparison, variants=tuple(about))


def _plan(
    variants: Sequence[Variant],
    backbones: Sequence[str],
    preset: str | Path | None,
    overrides: Mapping[str, Any],
) -> dict[tuple[str, str], tuple[Variant, Changes, Changes]]:
    """Return (backbone, variant's name) → the variant, its settings, and which it changes."""
    scopes = dict.fromkeys(name for v in (*ABLATION, *INTENSITY) for name in (v.name, v.method))
    names = (*backbones, *scopes)
    plan = {}
    for backbone in backbones:
        common = own_overrides(overrides, (backbone, "advinfonce"), names)
        base = resolve_settings(
            backbone=backbone, loss="advinfonce", preset=preset, overrides=common
        ).loss
        for variant in variants:
            own = own_overrides(overrides, (backbone, variant.method, variant.name), names)
            changes = variant.changes(base)
            settings = own | changes
            resolve_settings(
                backbone=backbone, loss=variant.method, preset=preset, overrides=settings
            )
            plan[backbone, variant.name] = variant, settings, changes
    return plan


def kept_kl(folders: Sequence[Path]) -> float | None:
    """Return the mean KL at the kept epoch, averaged over runs; None where there are no weights."""
    found = []
    for folder in folders:
        best = runs.read_result(folder)["best_epoch"]
        lines = [line for line in read_log(folder / "metrics.jsonl") if line["epoch"] == best]
        found += [line["kl"]["mean"] for line in lines if "kl" in line]
    return float(np.mean(found)) if found else None
