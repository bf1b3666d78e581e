"""A data set on disk as Parquet files by blocks of users, of which each worker reads its own.

Ids have become indices by then, which one process does once. `blocks/part-00002/train.parquet` has
the columns `user` and `item`; so has every other part of the data set.
"""

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import torch

from contrarec.data.blocks import Block, block_of, cut_points, slice_users
from contrarec.data.dataset import Dataset
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.tensorfile import load_tensors, save_tensors

_ABOUT = "about.safetensors"


def write_blocks(folder: Path, data: Dataset, n_workers: int) -> None:
    """Divide a data set among workers; what the folder held is replaced.

    Args:
        folder: where to; all workers must see it.
        data: the whole data set.
        n_workers: how many blocks.

    Raises:
        ConfigError: there are fewer users with interactions than workers.
    """
    cuts = cut_points(data.train.user_counts, n_workers)
    shutil.rmtree(folder, ignore_errors=True)
    for rank, (first, last) in enumerate(pairwise(cuts)):
        part = part_folder(folder, rank)
        for name, log in data.parts.items():
            own = slice_users(log, first, last)
            write_rows(part, name, own.rows + np.int32(first), own.indices)
        block = block_of(data.train, int(first))
        write_about(part, block, int(last), list(data.parts), data.candidates, data.name)


def part_folder(folder: Path, rank: int) -> Path:
    """Return the folder of a worker's block."""
    return folder / f"part-{rank:05d}"


def write_rows(part: Path, name: str, users: np.ndarray, items: np.ndarray) -> None:
    """Write the rows of a block, of one part of the data set; the folder is made if need be."""
    part.mkdir(parents=True, exist_ok=True)
    frame = pl.DataFrame({"user": users.astype(np.int32), "item": items})
    frame.write_parquet(part / f"{name}.parquet")


def write_about(
    part: Path,
    block: Block,
    last: int,
    parts: list[str],
    candidates: np.ndarray | None,
    name: str,
) -> None:
    """Write what a worker must know of its block beside the rows.

    Args:
        part: the block's folder.
        block: where it lies.
        last: the user behind its last one.
        parts: names of the parts of the data set.
        candidates: items that may be ranked; None for all.
        name: of the data set.
    """
    about = {key: value for key, value in vars(block).items() if key != "item_counts"}
    about |= {"last_user": last, "sets": [part for part in parts if part != "train"], "name": name}
    tensors = {"item_counts": torch.from_numpy(block.item_counts)}
    if candidates is not None:
        tensors["candidates"] = torch.from_numpy(candidates)
    save_tensors(part / _ABOUT, tensors, about)


def read_block(folder: Path, rank: int) -> tuple[Dataset, Block]:
    """Read one worker's block; users and items are called by their indices in the whole.

    Raises:
        DataError: a file is missing or damaged.
    """
    part = part_folder(folder, rank)
    tensors, about = load_tensors(part / _ABOUT)
    name, sets, last = (about.pop(key) for key in ("name", "sets", "last_user"))
    block = Block(**about, item_counts=tensors["item_counts"].numpy())
    n_items = len(block.item_counts)
    users = Vocabulary(pl.Series(np.arange(block.first_user, last)), distinct=True)
    items = Vocabulary(pl.Series(np.arange(n_items)), distinct=True)

    def read(part_name: str) -> Interactions:
        frame = pl.read_parquet(part / f"{part_name}.parquet")
        user_index = frame["user"].to_numpy() - np.int32(block.first_user)
        return Interactions.from_pairs(
            user_index, frame["item"].to_numpy(), users=users, items=items
        )

    excluded = None
    if "candidates" in tensors:
        others = np.setdiff1d(np.arange(n_items), tensors["candidates"].numpy())
        excluded = pl.Series(others)
    held_out = {part_name: read(part_name) for part_name in sets}
    data = Dataset.from_parts(
        train=read("train"), valid=held_out.pop("valid", None), tests=held_out,
        not_candidates=excluded, name=name,
    )  # fmt: skip
    return data, block
