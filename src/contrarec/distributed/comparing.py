"""The runs of a comparison on a cluster: a task for each, which trains it and measures it."""

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from contrarec import runs
from contrarec.comparison.measure import measure
from contrarec.comparison.run import Job
from contrarec.data.dataset import Dataset
from contrarec.distributed.cluster import Launch, cluster, load_ray
from contrarec.distributed.remote import tell_whereabouts
from contrarec.distributed.tasks import Tasks
from contrarec.errors import ConfigError
from contrarec.recommender import Recommender
from contrarec.settings import Settings


def train_jobs_together(
    jobs: Sequence[Job],
    data: Dataset,
    ks: tuple[int, ...],
    headline: tuple[str, ...],
    *,
    launch: Launch,
    on_end: Callable[[Job], None] | None = None,
) -> Iterator[Job]:
    """Train and measure what is not finished, several runs at a time, each as if it were alone.

    The data go to every machine once, through Ray; the runs' folders must be seen by all.

    Args:
        jobs: the runs, as `contrarec.comparison.run.plan_jobs` made them.
        data: what they are trained on and measured on.
        ks: cutoffs.
        headline: metrics of which per-user values are kept.
        launch: how many runs at a time, and where.
        on_end: called with each run after its end.

    Yields:
        The runs in their order, when all are finished.

    Raises:
        ConfigError: training failed; the message names the folder. Other runs are saved.
        BackendError: Ray is not installed, has too little to give, or workers died again and again.
        KeyboardInterrupt: training was interrupted; it was saved, and the same call goes on.
    """
    unfinished = [job for job in jobs if not job.finished]
    if unfinished:
        _train_all(unfinished, data, ks, headline, launch, on_end or (lambda _: None))
    yield from jobs


def _train_all(
    jobs: Sequence[Job],
    data: Dataset,
    ks: tuple[int, ...],
    headline: tuple[str, ...],
    launch: Launch,
    on_end: Callable[[Job], None],
) -> None:
    ray = load_ray(local=launch.address is None)
    with cluster(ray, launch) as on_gpu:
        stored, device = ray.put(pickle.dumps(data)), "cuda" if on_gpu else "cpu"
        calls = [
            (str(job.folder.resolve()), job.settings.to_toml(), stored, ks, headline, device)
            for job in jobs
        ]
        for position, finished in Tasks(ray, launch, on_gpu=on_gpu).run(_train, calls):
            if not finished:
                raise KeyboardInterrupt
            on_end(jobs[position])


def _train(
    name: str,
    settings: str,
    stored: bytes,
    ks: tuple[int, ...],
    headline: tuple[str, ...],
    device: str,
) -> bool:
    """Train a run, from its last checkpoint if there is one; return whether it is finished."""
    folder = Path(name)
    tell_whereabouts(folder, 0)
    data: Any = pickle.loads(stored)
    recommender = Recommender.from_settings(Settings.from_toml(settings), device=device)
    try:
        recommender.fit(replace(data, tests={}), out=folder, resume=True)
    except ConfigError as error:
        raise ConfigError(f"{folder}: {error}") from error
    if not runs.is_finished(folder):
        return False
    measure(folder, data, ks, headline, device)
    return True
