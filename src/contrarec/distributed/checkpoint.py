"""Checkpoints in parts: a file for each worker, and one that says which of them belong together.

A worker may be killed while it writes. So the parts of a step go into a folder of their own, and
only when all are there does `state/current.json` name it; then the folder before it goes.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from contrarec.backbones import Backbone
from contrarec.distributed.cluster import ItemTables
from contrarec.distributed.exchange import Exchange
from contrarec.errors import ConfigError
from contrarec.files import write_text
from contrarec.losses import Loss
from contrarec.training.checkpoint import Checkpoint
from contrarec.training.state import KLTrace, State

_CURRENT = "current.json"


def check_workers(folder: Path, n_workers: int, tables: ItemTables = "replicated") -> None:
    """Raise if a run's checkpoint is of workers that had other parts of the model.

    Args:
        folder: the run's.
        n_workers: how many are to go on with it.
        tables: how they have the items: `replicated` or `torchrec`.

    Raises:
        ConfigError: it is.
    """
    path = folder / "state" / _CURRENT
    if path.is_file():
        current = json.loads(path.read_text(encoding="utf-8"))
        written, had = current["workers"], current.get("tables", "replicated")
        if had != tables:
            raise ConfigError(
                f"{folder}: its checkpoint is of `tables` = {had!r}; resume it with these, got "
                f"{tables!r}."
            )
        if written != n_workers:
            raise ConfigError(
                f"{folder}: its checkpoint is of {written} workers; resume it with `workers` = "
                f"{written}, got {n_workers}."
            )
    elif (folder / "state" / "checkpoint.safetensors").is_file():
        raise ConfigError(
            f"{folder}: its checkpoint is of a run without `workers`; resume it without them."
        )


class PartCheckpoint(Checkpoint):
    """A worker's part of the checkpoint of a run.

    Args:
        folder: the run's folder, which all workers see.
        backbone, loss, optimizer: what is saved and restored.
        identity: values that must be equal in the run that wrote a checkpoint and the one that
            reads it.
        exchange: the workers that write together.
        tables: how they have the items.
    """

    def __init__(
        self,
        folder: Path,
        backbone: Backbone,
        loss: Loss,
        optimizer: torch.optim.Optimizer,
        identity: dict[str, Any],
        *,
        exchange: Exchange,
        tables: ItemTables,
    ) -> None:
        super().__init__(folder, backbone, loss, optimizer, identity)
        check_workers(folder, exchange.size, tables)
        self._state, self._exchange, self._tables = folder / "state", exchange, tables
        self._number = -1
        if (self._state / _CURRENT).is_file():
            current = json.loads((self._state / _CURRENT).read_text(encoding="utf-8"))
            self._number = current["number"]
        self.path = self._part(self._number)
        exchange.wait()  # nobody writes before all have read

    def save(self, state: State, best: dict[str, torch.Tensor], kl: KLTrace) -> None:
        """Write this worker's part; the checkpoint counts once all workers have written theirs."""
        old, self._number = self._folder(self._number), self._number + 1
        self.path = self._part(self._number)
        super().save(state, best, kl)
        self._exchange.wait()
        if self._exchange.rank == 0:
            current: dict[str, Any] = {"number": self._number, "workers": self._exchange.size}
            current |= {"tables": self._tables}
            write_text(self._state / _CURRENT, json.dumps(current) + "\n")
            shutil.rmtree(old, ignore_errors=True)

    def _folder(self, number: int) -> Path:
        return self._state / f"checkpoint-{number:06d}"

    def _part(self, number: int) -> Path:
        return self._folder(number) / f"part-{self._exchange.rank:05d}.safetensors"
