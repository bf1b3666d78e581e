"""The team of several workers: what the loop's `Team` asks, answered by exchanges."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from contrarec.backbones import Backbone
from contrarec.config import TrainingConfig
from contrarec.data.blocks import Block
from contrarec.data.dataset import TestSet
from contrarec.distributed.checkpoint import PartCheckpoint
from contrarec.distributed.exchange import Choice, Exchange, rows_pay
from contrarec.distributed.shard_ranking import rank_shards
from contrarec.distributed.sharded import ShardedHardness, ShardedMF
from contrarec.distributed.torchrec_tables import shard_rows
from contrarec.errors import DataError
from contrarec.evaluation.metrics import METRICS
from contrarec.evaluation.protocol import Rank, evaluate, rank_here, ranked_once
from contrarec.evaluation.ranking import DotScorer, Scorer
from contrarec.losses import EmbeddingHardness, Loss
from contrarec.optimizers import LazyAdam
from contrarec.sampling import Batch
from contrarec.training.checkpoint import Checkpoint
from contrarec.training.team import Team

_LOOK = 0.5  # seconds between two looks at the file that asks to stop


class Workers(Team):
    """One of several workers, each with its own block of users.

    Gradients of items are added up before every step of an optimizer, and so all copies of the item
    tables, and of their moments, stay the same; of items in shards each worker gets those of its
    own. Those of users need no exchange.

    Args:
        block: this worker's users.
        exchange: the collective operations.
        config: sizes of a step.
        device: where values for an exchange go.
        choice: how dense gradients of items are added up: whole tables, touched rows, or what takes
            fewer bytes.
        stop: a file that asks all workers to stop.
    """

    def __init__(
        self,
        block: Block,
        exchange: Exchange,
        config: TrainingConfig,
        device: torch.device,
        choice: Choice = "auto",
        stop: Path | None = None,
    ) -> None:
        self.block, self.size, self.leads = block, exchange.size, exchange.rank == 0
        self._exchange, self._choice, self._device = exchange, choice, device
        self._n_pairs = config.batch_size * (1 + config.n_neg)
        self._share, self._n_rows, self._batch_size = 1.0, 0.0, config.batch_size
        self._began = time.perf_counter(), exchange.seconds, exchange.n_bytes
        self._stop, self._stopping, self._looked = stop, False, 0.0
        self._backbone: ShardedMF | None = None
        self._hardness: ShardedHardness | None = None

    def attend(self, backbone: Backbone, loss: Loss, optimizer: torch.optim.Optimizer) -> None:
        """Add up the gradients of what all workers have a copy of, before every step."""
        own = {id(backbone.user_table)}
        hardness = getattr(loss, "hardness", None)
        if isinstance(hardness, EmbeddingHardness):
            own.add(id(hardness.users))
        items = adversary_items = None
        if isinstance(backbone, ShardedMF):
            self._backbone, items = backbone, backbone.items
            own.add(id(items.weight))
        if isinstance(hardness, ShardedHardness):
            self._hardness, adversary_items = hardness, hardness.table
            own.add(id(adversary_items.weight))
        dense = not backbone.row_sparse  # a graph spreads a step over all rows

        def of_model(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            if items:
                items.send_back(lazy=isinstance(optimizer, LazyAdam))
            for table in _tables(optimizer):
                if id(table) not in own:
                    self._add_up(table, dense=dense)

        def of_adversary(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            rows = [adversary_items.rows] if adversary_items else []
            for table in (*_tables(optimizer), *rows):
                if table.grad is not None:  # it knows the mean over its own rows alone
                    table.grad = table.grad * self._share if self._share else table.grad
            if adversary_items:
                adversary_items.send_back(lazy=isinstance(optimizer, LazyAdam))
            for table in _tables(optimizer):
                if id(table) not in own:
                    self._add_up(table, dense=False)

        optimizer.register_step_pre_hook(of_model)
        if loss.has_adversary:
            loss.adversary_optimizer.register_step_pre_hook(of_adversary)

    def begin_step(self, share: float) -> None:
        """Take note of the share of a step's rows that this worker has."""
        self._share = share
        self._n_rows += share * self._batch_size

    def fetch(self, batch: Batch) -> Batch:
        """Fetch the rows of a batch from the shards, if items are in any."""
        if self._hardness:
            self._hardness.fetch(batch.items[:, 1:])
        return self._backbone.fetch(batch) if self._backbone else batch

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum over the workers."""
        return self._exchange.add_up(value.clone())

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        """Return the workers' values `[n]`, one after the other."""
        return self._exchange.gather(values.to(self._device)).cpu()

    def anyone(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether a worker has raised it; all get the same answer."""
        raised = torch.tensor(flags, dtype=torch.int32, device=self._device)
        return tuple(bool(flag) for flag in self._exchange.highest(raised).tolist())

    def stopping(self) -> bool:
        """Return whether the file that asks to stop is there, as one worker sees it."""
        now = time.monotonic()
        if self._stop is not None and self.leads and now - self._looked > _LOOK:
            self._looked, self._stopping = now, self._stop.exists()
        return self._stopping

    def metrics(
        self, scorer: Scorer, tests: Sequence[TestSet], ks: Sequence[int]
    ) -> dict[str, dict[str, float]]:
        """Return by set the means over the users of all workers."""
        rank = self._rank_shards if self._backbone else ranked_once(tests, rank_here)
        return {test.name: self._means(scorer, test, ks, rank) for test in tests}

    def _means(
        self, scorer: Scorer, test: TestSet, ks: Sequence[int], rank: Rank
    ) -> dict[str, float]:
        names = [f"{kind}@{k}" for k in ks for kind in METRICS]
        sums = np.zeros(1 + len(names))
        if test.truth.nnz:
            found = evaluate(scorer, test, ks=ks, rank=rank)
            sums[0] = len(found.users)
            sums[1:] = [found.per_user[name].sum() for name in names]
        elif self._backbone:  # the other workers wait for this one's shard
            rank(scorer, test, np.empty(0, np.int64), 1)
        n_users, *totals = self.total(torch.from_numpy(sums).to(self._device)).tolist()
        if not n_users:
            raise DataError(f"test set `{test.name}` must have a user with a positive, got none.")
        return {name: value / n_users for name, value in zip(names, totals, strict=True)}

    def checkpoint(
        self,
        folder: Path,
        backbone: Backbone,
        loss: Loss,
        optimizer: torch.optim.Optimizer,
        identity: dict[str, Any],
    ) -> Checkpoint:
        """Return where this worker's part of a checkpoint goes."""
        return PartCheckpoint(
            folder, backbone, loss, optimizer, identity,
            exchange=self._exchange, tables="torchrec" if self._backbone else "replicated",
        )  # fmt: skip

    def account(self) -> dict[str, Any]:
        """Return rows a second and share of time in exchanges, of each worker since last time."""
        now = time.perf_counter(), self._exchange.seconds, self._exchange.n_bytes
        seconds, exchanging, n_bytes = (b - a for a, b in zip(self._began, now, strict=True))
        own = torch.tensor(
            [[self._n_rows / seconds, exchanging / seconds, n_bytes]],
            dtype=torch.float64,
            device=self._device,
        )
        self._began, self._n_rows = now, 0.0
        columns = self._exchange.gather(own).T.tolist()
        names = ("rows_per_second", "communicating", "bytes")
        return {"workers": dict(zip(names, columns, strict=True))}

    def _rank_shards(
        self, scorer: Scorer, test: TestSet, users: NDArray[np.int64], k: int
    ) -> NDArray[np.int32]:
        ends = [shard_rows(test.truth.n_items, self.size, rank) for rank in range(self.size)]
        lengths = [last - first for first, last in ends]
        own = cast("DotScorer", scorer)
        return rank_shards(own, test, users, k, exchange=self._exchange, lengths=lengths)

    def _add_up(self, table: torch.nn.Parameter, *, dense: bool) -> None:
        grad = table.grad
        if grad is None or self.size == 1:
            return
        if grad.is_sparse:
            grad = grad.coalesce()
            by_rows = self._by_rows(table)
            add_up = self._exchange.add_up_rows if by_rows else self._exchange.add_up_table
            table.grad = add_up(grad.indices()[0], grad.values(), len(table))
        elif dense or not self._by_rows(table):
            self._exchange.add_up(grad)
        else:
            touched = (grad != 0).any(1).nonzero()[:, 0]
            total = self._exchange.add_up_rows(touched, grad[touched], len(table))
            grad[total.indices()[0]] = total.values()  # every touched row is one of these

    def _by_rows(self, table: torch.Tensor) -> bool:
        if self._choice != "auto":
            return self._choice == "rows"
        return rows_pay(
            n_rows=len(table), dim=table.shape[1], n_pairs=self._n_pairs, n_workers=self.size
        )


def _tables(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [table for group in optimizer.param_groups for table in group["params"]]
