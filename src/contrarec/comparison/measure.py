"""Measuring the runs of a comparison: per-user values, kept with each run, and tests on them."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from contrarec import runs
from contrarec.comparison.table import Contrast, Row
from contrarec.config import NO_BACKBONE
from contrarec.data.dataset import Dataset
from contrarec.evaluation.compare import holm, paired_tests
from contrarec.recommender import Recommender
from contrarec.tensorfile import load_tensors, save_tensors

HEADLINE = ("recall", "ndcg")
"""Kinds of metrics that are tested, at the cutoff of the metric that picks the best epoch."""
RESAMPLES = 4_000
"""Bootstrap samples behind each interval."""
FLIPS = 10_000
"""Sign flips behind each p-value."""

_CACHE = "per_user.safetensors"

PerUser = dict[tuple[str, str], NDArray[np.float64]]
"""(test set, metric) → one value per user with a positive."""


class Measured(NamedTuple):
    """What is known of a finished run."""

    result: dict[str, Any]
    """What training reported."""
    means: dict[str, dict[str, float]]
    """Test set → metric → mean over users."""
    per_user: PerUser
    """The headline metrics."""


def measure(
    folder: Path, data: Dataset, ks: tuple[int, ...], headline: tuple[str, ...], device: str
) -> Measured:
    """Evaluate a finished run on every test set, once.

    What was found is kept in the run's folder, and used again for the same test sets and cutoffs.

    Raises:
        DataError: a file of the run is damaged.
    """
    result, path = runs.read_result(folder), folder / _CACHE
    places = [(name, metric) for name in data.tests for metric in headline]
    key = f"{_digest(data)} {ks} {headline}"
    if path.exists():
        tensors, meta = load_tensors(path)
        if meta["key"] == key:
            kept = {place: tensors["/".join(place)].numpy() for place in places}
            return Measured(result, meta["means"], kept)
    tests = replace(data, valid=None)
    evaluations = Recommender.load(folder, device=device).evaluate(tests, ks=ks, bootstrap=0)
    means = {name: evaluations[name].metrics() for name in data.tests}
    per_user = {(name, metric): evaluations[name].per_user[metric] for name, metric in places}
    tensors = {"/".join(place): torch.from_numpy(values) for place, values in per_user.items()}
    save_tensors(path, tensors, {"key": key, "means": means})
    return Measured(result, means, per_user)


def _digest(data: Dataset) -> str:
    """Hash what an evaluation depends on beside the model: ids, truths, masks, candidates."""
    digest = hashlib.sha256(data.fingerprint().encode())
    for name, test in data.tests.items():
        digest.update(name.encode())
        for part in (test.truth, test.mask):
            for array in (part.indptr, part.indices) if part is not None else ():
                digest.update(array.tobytes())
        if test.candidates is not None:
            digest.update(test.candidates.tobytes())
    return digest.hexdigest()


def summarise(pair: tuple[str, str], seeds: Sequence[int], measured: Sequence[Measured]) -> Row:
    """Bring the runs of one (backbone, method) together, in the order of the seeds."""
    return Row(
        backbone=pair[0],
        method=pair[1],
        runs=tuple(
            {"seed": seed}
            | {name: run.result[name] for name in ("best_epoch", "epochs", "seconds", "stopped")}
            for seed, run in zip(seeds, measured, strict=True)
        ),
        values={
            name: {metric: tuple(run.means[name][metric] for run in measured) for metric in metrics}
            for name, metrics in measured[0].means.items()
        },
    )


def contrasts(
    found: Mapping[tuple[str, str], Sequence[Measured]],
    backbones: Sequence[str],
    methods: Sequence[str],
) -> Iterator[Contrast]:
    """Test every method against every other of its backbone, on averages over seeds per user.

    A method without a backbone is tested against those of every backbone.

    The p-values of one test set, metric and reference method are corrected together.
    """
    some = next(iter(found.values()))[0]
    for test, metric in some.per_user:
        averages = {
            pair: np.mean([run.per_user[test, metric] for run in measured], axis=0)
            for pair, measured in found.items()
        }
        pairs: list[Contrast] = []
        for backbone in (*backbones, NO_BACKBONE):
            ours = {m: averages[backbone, m] for m in methods if (backbone, m) in averages}
            fitted = {m: averages[NO_BACKBONE, m] for m in methods if (NO_BACKBONE, m) in averages}
            names = [method for method in methods if method in ours or method in fitted]
            if len(names) < 2:
                continue
            table = np.stack([(fitted | ours)[name] for name in names], axis=1)
            outcomes = paired_tests(table, n_flips=FLIPS, n_resamples=RESAMPLES)
            for (one, other), outcome in outcomes.items():
                if not {names[one], names[other]} & ours.keys():
                    continue  # two baselines: once, without a backbone
                contrast = Contrast(
                    backbone=backbone,
                    method=names[other],
                    against=names[one],
                    test=test,
                    metric=metric,
                    difference=outcome.difference,
                    low=outcome.low,
                    high=outcome.high,
                    p=outcome.p_value,
                    p_holm=1.0,
                )
                pairs += [contrast, contrast.reversed()]
        for against in methods:
            family = [contrast for contrast in pairs if contrast.against == against]
            for contrast, p in zip(family, holm([c.p for c in family]), strict=True):
                yield replace(contrast, p_holm=float(p))
