"""Who trains together: what the loop asks of the workers that share a run.

`Team` is one that trains alone; `contrarec.distributed` has the one of several workers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from contrarec.backbones import Backbone
from contrarec.data.blocks import Block
from contrarec.data.dataset import TestSet
from contrarec.evaluation.protocol import evaluate, rank_here, ranked_once
from contrarec.evaluation.ranking import Scorer
from contrarec.losses import Loss
from contrarec.sampling import Batch
from contrarec.training.checkpoint import Checkpoint


class Team:
    """One worker that has all users: every sum is its own, and nothing is exchanged."""

    size: int = 1
    """Workers."""
    leads: bool = True
    """Whether this worker writes the log."""
    block: Block | None = None
    """Which of the users are this worker's; None for all."""

    def attend(self, backbone: Backbone, loss: Loss, optimizer: torch.optim.Optimizer) -> None:
        """From now on, add up the workers' gradients before every step of the optimizers."""

    def begin_step(self, share: float) -> None:
        """Take note of the share of a step's rows that this worker has."""

    def fetch(self, batch: Batch) -> Batch:
        """Return a batch with its items by their places in the tables that the backbone returns.

        Those are their indices, unless item tables are in shards: then rows are brought here.
        """
        return batch

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum over the workers."""
        return value

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """Return the workers' values `[n]`, one after the other."""
        return values

    def anyone(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether a worker has raised it; all get the same answer."""
        return flags

    def stopping(self) -> bool:
        """Return whether this worker has been asked to stop, other than by Ctrl-C."""
        return False

    def metrics(
        self, scorer: Scorer, tests: Sequence[TestSet], ks: Sequence[int]
    ) -> dict[str, dict[str, float]]:
        """Return by set the means over the users of all workers."""
        rank = ranked_once(tests, rank_here)
        return {test.name: evaluate(scorer, test, ks=ks, rank=rank).metrics() for test in tests}

    def checkpoint(
        self,
        folder: Path,
        backbone: Backbone,
        loss: Loss,
        optimizer: torch.optim.Optimizer,
        identity: dict[str, Any],
    ) -> Checkpoint:
        """Return where this worker's part of a checkpoint goes."""
        return Checkpoint(folder, backbone, loss, optimizer, identity)

    def account(self) -> dict[str, Any]:
        """Return what the epoch's line of the log says of the workers, and begin the next."""
        return {}
