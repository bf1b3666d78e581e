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
        part = folder / f"part-{rank:05d}"
        part.mkdir(parents=True)
        for name, log in data.parts.items():
            own = slice_users(log, first, last)
            frame = pl.DataFrame({"user": own.rows + np.int32(first), "item": own.indices})
            frame.write_parquet(part / f"{name}.parquet")
        block = block_of(data.train, int(first))
        about = {name: value for name, value in vars(block).items() if name != "item_counts"}
        about |= {"last_user": int(last), "sets": [name for name in data.parts if name != "train"]}
        tensors = {"item_counts": torch.from_numpy(block.item_counts)}
        if data.candidates is not None:
            tensors["candidates"] = torch.from_numpy(data.candidates)
        save_tensors(part / _ABOUT, tensors, about | {"name": data.name})


def read_block(folder: Path, rank: int) -> tuple[Dataset, Block]:
    """Read one worker's block; users and items are called by their indices in the whole.

    Raises:
        DataError: a file is missing or damaged.
    """
    part = folder / f"part-{rank:05d}"
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
