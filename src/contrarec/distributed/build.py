"""A worker's part of a model: the rows of its users, and all rows of items, or a shard of them.

Every worker draws the whole tables, a piece at a time, and keeps its own rows, so that the model
starts as the one that a single worker would train.
"""

import math
from dataclasses import replace

import torch

from contrarec.backbones import MF, Backbone
from contrarec.data.blocks import Block
from contrarec.data.interactions import Interactions
from contrarec.distributed.cluster import ItemTables
from contrarec.distributed.exchange import Exchange
from contrarec.distributed.lightgcn import DividedLightGCN
from contrarec.distributed.sharded import ShardedHardness, ShardedMF
from contrarec.losses import AdvInfoNCEConfig, EmbeddingHardness, Loss, resolve_loss
from contrarec.optimizers import LAZY_ROWS
from contrarec.settings import Settings

_PIECE = 1 << 14  # rows drawn at a time; a multiple of the 16 numbers that torch draws together


def build_block(
    settings: Settings,
    train: Interactions,
    block: Block,
    exchange: Exchange,
    device: torch.device,
    tables: ItemTables = "replicated",
) -> tuple[Backbone, Loss]:
    """Build backbone and loss for a block's users.

    Args:
        settings: of the run.
        train: the block's interactions.
        block: where it lies.
        exchange: for a backbone whose layers add up over workers.
        device: where the rows go.
        tables: of items, and of the adversary's: a copy for each worker, or shards.
    """
    sharded = tables == "torchrec"
    playing = getattr(settings.loss, "hardness", None) == "embedding"
    rest = torch.Generator()  # draws what is replaced below
    backbone: Backbone
    if settings.backbone.name == "lightgcn":
        backbone = DividedLightGCN(train, settings.backbone, rest, block, exchange)
    elif sharded:
        backbone = ShardedMF(train, settings.backbone, exchange)
    else:
        backbone = MF(train, settings.backbone, rest)
    loss = resolve_loss(settings.loss_name).loss(
        settings.loss,
        n_users=train.n_users,
        n_items=1 if sharded and playing else train.n_items,  # of a table that is replaced below
        item_counts=block.item_counts,
        dim=settings.backbone.dim,
        rng=rest,
    )
    generator = torch.Generator().manual_seed(settings.seed)
    whole = block.n_users, block.first_user
    fill_rows(backbone.user_table, *whole, generator)
    first = backbone.items.first if isinstance(backbone, ShardedMF) else 0
    fill_rows(backbone.item_table, train.n_items, first, generator)
    hardness = getattr(loss, "hardness", None)
    if isinstance(hardness, EmbeddingHardness):
        if sharded:
            loss.hardness = hardness = ShardedHardness(hardness, train.n_items, exchange)
        fill_rows(hardness.users, *whole, generator)
        fill_rows(hardness.items, train.n_items, first, generator)
    return backbone.to(device), loss.to(device)


@torch.no_grad()
def fill_rows(table: torch.Tensor, n_rows: int, first: int, generator: torch.Generator) -> None:
    """Fill a table with its rows of a larger one that is drawn Xavier-normal.

    Args:
        table: `[n, dim]`, the rows `first … first + n − 1`.
        n_rows: rows of the larger one.
        first: where they start.
        generator: is left where drawing the larger one at once would leave it.
    """
    n, dim = table.shape
    std = math.sqrt(2.0 / (n_rows + dim))
    start = 0
    while start < n_rows:
        # the last piece must not be a small one: torch draws fewer than 16 numbers another way
        stop = n_rows if n_rows - start < 2 * _PIECE else start + _PIECE
        piece = torch.empty(stop - start, dim).normal_(0.0, std, generator=generator)
        low, high = max(first, start), min(first + n, stop)
        if low < high:
            table[low - first : high - first] = piece[low - start : high - start]
        start = stop


def settle_optimizers(settings: Settings, block: Block, device: torch.device) -> Settings:
    """Decide on lazy Adam by the size of the whole tables, which no worker has."""
    n_rows = block.n_users + len(block.item_counts)
    lazy = n_rows >= LAZY_ROWS and device.type == "cpu"
    training, loss = settings.training, settings.loss
    if training.optimizer == "auto":
        row_sparse = settings.backbone.name == "mf"
        training = replace(training, optimizer="lazy_adam" if lazy and row_sparse else "adam")
    if isinstance(loss, AdvInfoNCEConfig) and loss.adv_optimizer == "auto":
        loss = replace(loss, adv_optimizer="lazy_adam" if lazy else "adam")
    return replace(settings, training=training, loss=loss)
