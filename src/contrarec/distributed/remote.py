"""What Ray runs on each worker: read a block, train it, write what came out."""

import json
import os
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any

FAILED, OUTCOME, STOP = "failed.json", "outcome.json", "stop"
"""In a run's `state`: what a worker refused, how training ended, that it is to stop."""


def part_weights(folder: Path, rank: int) -> Path:
    """Return where a worker's weights go."""
    return folder / "state" / "parts" / f"part-{rank:05d}.safetensors"


def whereabouts(folder: Path, rank: int) -> Path:
    """Return the file that says on which host and as which process a worker runs."""
    return folder / "state" / f"worker-{rank:05d}.json"


def tell_whereabouts(folder: Path, rank: int) -> None:
    """Write that file, in a process that Ray has started."""
    import ray

    from contrarec.files import write_text

    path = whereabouts(folder, rank)
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"host": socket.gethostname(), "node": ray.get_runtime_context().get_node_id()}
    write_text(path, json.dumps(about | {"pid": os.getpid()}) + "\n")


def work(config: dict[str, Any]) -> None:
    """Train this worker's block, from the last checkpoint if there is one.

    A wrong setting is no failure that starting again could mend: it is written down for the driver.

    Args:
        config: `folder`, `settings` (TOML), `fingerprint`, `threads` and `tables`.
    """
    import torch
    import torch.distributed as dist
    from ray.train.torch import get_device

    from contrarec.distributed.shards import read_block
    from contrarec.distributed.worker import fit_block
    from contrarec.errors import ContrarecError
    from contrarec.files import write_text
    from contrarec.kernels.dispatch import set_threads
    from contrarec.settings import Settings
    from contrarec.tensorfile import save_tensors

    folder = Path(config["folder"])
    if (folder / "state" / FAILED).is_file():
        return
    set_threads(config["threads"])
    rank = dist.get_rank()
    tell_whereabouts(folder, rank)
    device = get_device() if dist.get_backend() == "nccl" else torch.device("cpu")
    settings = Settings.from_toml(config["settings"])
    try:
        data, block = read_block(folder / "state" / "blocks", rank)
        result = fit_block(
            settings, data, block, folder=folder, resume=True, device=device,
            identity={"settings": config["settings"], "data": config["fingerprint"]},
            stop=folder / "state" / STOP, tables=config["tables"],
        )  # fmt: skip
    except ContrarecError as error:
        failed = {"kind": type(error).__name__, "message": str(error)}
        write_text(folder / "state" / FAILED, json.dumps(failed) + "\n")
        return
    save_tensors(part_weights(folder, rank), result.weights, {})
    if rank == 0:
        outcome = asdict(result.outcome) | {"metrics": result.metrics}
        write_text(folder / "state" / OUTCOME, json.dumps(outcome) + "\n")
