"""One worker of a run: trains its block of users within a process group."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from contrarec.data.blocks import Block
from contrarec.data.dataset import Dataset
from contrarec.distributed.build import build_block, settle_optimizers
from contrarec.distributed.cluster import ItemTables
from contrarec.distributed.exchange import Choice, Exchange
from contrarec.distributed.refusals import check_divisible
from contrarec.distributed.team import Workers
from contrarec.settings import Settings
from contrarec.tensorfile import pack
from contrarec.training.loop import Metrics, Outcome, evaluate_sets, fit, model_scorer

_OF_USERS = ("backbone.user_table", "loss.hardness.users")
_OF_ITEMS = ("backbone.item_table", "loss.hardness.items")


def own_tables(tables: ItemTables) -> tuple[str, ...]:
    """Return the names of the tables that each worker has its own rows of."""
    return _OF_USERS + (_OF_ITEMS if tables == "torchrec" else ())


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockResult:
    """What a worker ends with."""

    outcome: Outcome
    metrics: Metrics
    """Of all users, by set."""
    weights: dict[str, torch.Tensor]
    """The best weights: the rows of its users, and everything that all workers have."""


def fit_block(
    settings: Settings,
    data: Dataset,
    block: Block,
    *,
    group: dist.ProcessGroup | None = None,
    folder: Path | None = None,
    resume: bool = False,
    identity: dict[str, Any] | None = None,
    device: torch.device | str = "cpu",
    choice: Choice = "auto",
    stop: Path | None = None,
    tables: ItemTables = "replicated",
) -> BlockResult:
    """Train one worker's block; every worker of the group calls it with its own.

    The batches, and so the course of training, are those of a single worker but for rounding.

    Args:
        settings: of the run, the same on all workers.
        data: the parts of the block's own users, as `slice_dataset` cuts them.
        block: where the block lies.
        group: an initialised process group; None for the default one. Block `r` goes to rank `r`.
        folder: the run's folder, which all workers see; None keeps nothing.
        resume: go on from the checkpoint in `folder`; without one, start from the beginning.
        identity: what must be equal between a checkpoint and the run that resumes it.
        device: of this worker.
        choice: how gradients of items are added up.
        stop: a file that, once it is there, asks all workers to save and stop.
        tables: of items: a copy for each worker, or shards of them by TorchRec.

    Raises:
        ConfigError: the settings cannot be divided, or the loss became NaN or infinite.
        BackendError: TorchRec is asked for and cannot be imported.
        DataError: the checkpoint is damaged or belongs to another run.
    """
    device = torch.device(device)
    exchange = Exchange(group)
    check_divisible(settings, exchange.size, tables)
    settings = settle_optimizers(settings, block, device)
    backbone, loss = build_block(settings, data.train, block, exchange, device, tables)
    team = Workers(block, exchange, settings.training, device, choice, stop)
    outcome = fit(
        backbone, loss, data, settings.training, seed=settings.seed, folder=folder, resume=resume,
        identity=identity, team=team,
    )  # fmt: skip
    return BlockResult(
        outcome=outcome,
        metrics=evaluate_sets(model_scorer(backbone, loss), data, settings.training.ks, team),
        weights=pack("backbone", backbone.state_dict()) | pack("loss", loss.state_dict()),
    )


def join_weights(
    parts: Sequence[dict[str, torch.Tensor]], tables: ItemTables = "replicated"
) -> dict[str, torch.Tensor]:
    """Return a model's weights from those of its blocks, in order."""
    own = own_tables(tables)
    return {
        name: torch.cat([part[name] for part in parts]) if name in own else tensor
        for name, tensor in parts[0].items()
    }
