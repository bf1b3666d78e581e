"""Ray Train starts the workers of a run, and starts them again from the last checkpoint.

The run's folder is what the driver and the workers have in common: the blocks of users, the
checkpoints, the log, and what each worker ends with. Nothing of size goes through Ray.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from contrarec import runs
from contrarec.data.dataset import Dataset
from contrarec.distributed.checkpoint import check_workers
from contrarec.distributed.cluster import Launch, cluster, load_ray
from contrarec.distributed.parquet_parts import PartedData
from contrarec.distributed.parted import Parted
from contrarec.distributed.refusals import check_divisible
from contrarec.distributed.remote import FAILED, OUTCOME, STOP, part_weights, work
from contrarec.distributed.sources import InMemory, Source
from contrarec.distributed.tasks import Tasks
from contrarec.distributed.torchrec_tables import check_torchrec
from contrarec.distributed.worker import own_tables
from contrarec.errors import BackendError, ConfigError, DataError, error_of
from contrarec.files import write_text
from contrarec.settings import Settings
from contrarec.tensorfile import InPieces, load_tensors, shape_of
from contrarec.training.interrupt import Interrupt
from contrarec.training.loop import Hooks
from contrarec.training.metrics_log import read_log

_LOOK = 0.2  # seconds between two looks at whether Ctrl-C was pressed


def train_together(
    settings: Settings,
    data: Dataset | PartedData,
    folder: Path,
    launch: Launch,
    *,
    resume: bool = False,
    hooks: Hooks | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Train a run by several workers; it ends as a folder like any other.

    Args:
        settings: of the run.
        data: the whole data set; or where its parts are, which Ray's tasks then read, so that no
            process has all rows. Workers read their block of it from the run's folder.
        folder: the run's folder; on several machines it must be one that all of them see.
        launch: how many workers, and where.
        resume: go on from the last checkpoint in the folder.
        hooks: `on_epoch` and `on_eval` are called as the log grows.
        note: is called with what reading the parts has brought up, and how workers exchange.

    Returns:
        The run's result, as in `result.json`.

    Raises:
        ConfigError: the settings cannot be divided, or the folder is another run's.
        DataError: something is wrong with the data.
        BackendError: Ray is not installed, has too little to give, or gave up.
        KeyboardInterrupt: Ctrl-C was pressed twice, or once and workers did not save in time. Once
            they have saved, the result says `interrupted`.
    """
    check_divisible(settings, launch.workers, launch.tables)
    sharded = launch.tables == "torchrec"
    if sharded:
        check_torchrec()
    ray, folder = load_ray(local=launch.address is None, train=True), folder.resolve()
    resuming = resume and runs.is_started(folder)
    if not resuming:
        runs.refuse_started(folder)
    known = data if isinstance(data, PartedData) else InMemory(data)
    with cluster(ray, launch) as on_gpu:
        if sharded and on_gpu:
            raise ConfigError("`device` must be 'cpu' with `tables` = 'torchrec', got GPUs.")
        state = folder / "state"
        if resuming:
            check_workers(folder, launch.workers, launch.tables)
        source: Source = (
            Parted(
                known, state / "partitions", launch.workers, Tasks(ray, launch, on_gpu=False).all
            )
            if isinstance(known, PartedData)
            else known
        )
        for line in source.notes:
            note(line)
        exchange = "nccl" if on_gpu else "gloo"
        note(
            f"{launch.workers} workers on {'GPUs' if on_gpu else 'CPUs'} exchange by {exchange}"
            + (", items in shards by TorchRec" if sharded else "")
        )
        if resuming:
            _check_same(folder, settings, source.about)
        else:
            source.begin(folder, settings)
        source.write_blocks(state / "blocks", launch.workers)
        for name in (FAILED, OUTCOME, STOP):
            (state / name).unlink(missing_ok=True)
        started = time.perf_counter()
        with _following(folder / "metrics.jsonl", settings, hooks):
            _run(ray, folder, settings, source.about, launch, on_gpu)
    if (state / FAILED).is_file():
        failed = json.loads((state / FAILED).read_text(encoding="utf-8"))
        raise error_of(failed["kind"], failed["message"])
    result: dict[str, Any] = (
        {
            "run": str(folder),
            "data": data.name,
            "backbone": settings.backbone.name,
            "loss": settings.loss_name,
            "seed": settings.seed,
            "device": "cuda" if on_gpu else "cpu",
            "workers": launch.workers,
            "exchange": exchange,
            "tables": launch.tables,
            "wall_seconds": time.perf_counter() - started,
        }
        | json.loads((state / OUTCOME).read_text(encoding="utf-8"))
        | source.account
    )
    if result["stopped"] != "interrupted":
        runs.finish(folder, _joined(folder, launch), result)
        shutil.rmtree(state / "blocks", ignore_errors=True)
        shutil.rmtree(state / "parts", ignore_errors=True)
    return result


def _joined(folder: Path, launch: Launch) -> dict[str, torch.Tensor | InPieces]:
    """Return the model's weights from those of its blocks; one block at a time is in memory."""
    paths = [part_weights(folder, rank) for rank in range(launch.workers)]
    own = own_tables(launch.tables)

    def rows(name: str) -> Iterator[torch.Tensor]:
        for path in paths:
            yield load_tensors(path)[0][name]

    joined: dict[str, torch.Tensor | InPieces] = {}
    for name, tensor in load_tensors(paths[0])[0].items():
        if name in own:
            n_rows = sum(shape_of(path, name)[0] for path in paths)
            shape = (n_rows, *tensor.shape[1:])
            joined[name] = InPieces(tensor.dtype, shape, partial(rows, name))
        else:
            joined[name] = tensor
    return joined


def _run(
    ray: Any, folder: Path, settings: Settings, about: runs.RunData, launch: Launch, on_gpu: bool
) -> None:
    """Have Ray Train run the workers to their end."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    own = folder / "state" / "ray"
    # a worker that hangs answers neither the others nor Ray
    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(launch.timeout)
    resources = {"CPU": float(launch.threads)} | ({"GPU": 1.0} if on_gpu else {})
    trainer = TorchTrainer(
        work,
        train_loop_config={
            "folder": str(folder),
            "settings": settings.to_toml(),
            "fingerprint": about.fingerprint,
            "threads": launch.threads,
            "tables": launch.tables,
        },
        scaling_config=ScalingConfig(
            num_workers=launch.workers, use_gpu=on_gpu, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=f"{os.getpid()}-{time.time_ns()}",  # not to go on with what Ray remembers itself
            storage_path=str(own),
            failure_config=FailureConfig(max_failures=launch.max_failures),
        ),
        torch_config=TorchConfig(
            backend="nccl" if on_gpu else "gloo", timeout_s=max(1, round(launch.timeout))
        ),
    )
    try:
        _wait_for(_in_background(trainer.fit), folder / "state" / STOP, launch.grace)
    except ray.train.TrainingFailedError as error:
        cause = str(error).strip().splitlines()
        raise BackendError(
            f"{folder}: workers failed {launch.max_failures + 1} times; go on with --resume. "
            f"The last cause: {cause[-1] if cause else error!r}"
        ) from None
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _in_background(function: Callable[[], Any]) -> "Future[Any]":
    """Call a function in a thread that the process does not wait for.

    Ray Train takes Ctrl-C for itself in the main thread, and would let nothing be saved.
    """
    future = Future[Any]()

    def call() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return future


def _wait_for(future: "Future[Any]", stop: Path, grace: float) -> None:
    """Wait until workers are through; at Ctrl-C ask them to save and stop, by a file."""
    deadline = float("inf")
    with Interrupt() as interrupt:
        while not wait([future], timeout=_LOOK).done:
            if interrupt.requested and not stop.is_file():
                write_text(stop, "")
                deadline = time.monotonic() + grace
            if time.monotonic() > deadline:
                raise KeyboardInterrupt
    future.result()


@contextmanager
def _following(path: Path, settings: Settings, hooks: Hooks | None) -> Iterator[None]:
    """Call hooks for the lines that workers add to the log while the block runs."""
    if hooks is None:
        yield
        return
    done, seen = threading.Event(), {line["epoch"] for line in read_log(path)}
    best = -float("inf")

    def look() -> None:
        nonlocal best
        for line in read_log(path):
            if line["epoch"] in seen:
                continue
            seen.add(line["epoch"])
            value = line.get("metrics", {}).get("valid", {}).get(settings.training.monitor, best)
            improved, best = value > best, max(best, value)
            if "metrics" in line and hooks.on_eval:
                hooks.on_eval(line["epoch"], line["metrics"], improved)
            if hooks.on_epoch:
                hooks.on_epoch(line)

    def follow() -> None:
        while not done.wait(0.5):
            look()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        look()


def _check_same(folder: Path, settings: Settings, about: runs.RunData) -> None:
    known_settings, known = runs.read_settings(folder)
    if known_settings != settings:
        raise ConfigError(
            f"{folder}: was started with other settings; resume it with those of its config.toml, "
            "or choose another folder."
        )
    if known.fingerprint != about.fingerprint:
        raise DataError(
            f"{folder}: was trained on other data (fingerprint {known.fingerprint}, "
            f"got {about.fingerprint})."
        )
