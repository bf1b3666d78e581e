"""How rows are divided among workers that rank for them, and how their files are joined."""

import shutil
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from contrarec.files import replacing


def cut_rows(n_rows: int, n_parts: int, step: int) -> list[slice]:
    """Divide rows into consecutive parts, at multiples of the block that is ranked at a time.

    Every block is then what it would be without parts, and so is what is computed of it, to the
    last bit. What is left over behind the last whole block goes with that block.

    Args:
        n_rows: how many rows.
        n_parts: how many parts at most; there are fewer where there are fewer blocks.
        step: rows of a block.

    >>> [(part.start, part.stop) for part in cut_rows(23, 3, 5)]
    [(0, 5), (5, 10), (10, 23)]
    >>> [(part.start, part.stop) for part in cut_rows(23, 3, 20)]
    [(0, 23)]
    """
    n_blocks = max(1, n_rows // step)
    cuts = np.linspace(0, n_blocks, min(n_parts, n_blocks) + 1).astype(int) * step
    cuts[-1] = n_rows
    return [slice(int(start), int(stop)) for start, stop in pairwise(cuts)]


def join_tables(parts: Sequence[Path], out: Path) -> None:
    """Make one table of several with the same columns, in their order and in bounded memory.

    Args:
        parts: `.csv` or `.parquet` files, as `out` is.
        out: appears complete or not at all.
    """
    with replacing(out) as temporary:
        if out.suffix.lower() == ".parquet":
            pl.scan_parquet(list(parts)).sink_parquet(temporary)
            return
        with temporary.open("wb") as file:
            for number, part in enumerate(parts):
                with part.open("rb") as source:
                    if number:
                        source.readline()  # the header
                    shutil.copyfileobj(source, file)
