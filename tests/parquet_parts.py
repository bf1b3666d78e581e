"""A log in Parquet parts, with all that makes them hard: types, repetitions, users of one part."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

N_USERS, N_ITEMS = 60, 40


def write_parts(folder: Path, kind: str = "text") -> Path:
    """Write `train` in five files, `valid` and `test_ood` in two, `test` in one.

    Args:
        folder: is made.
        kind: of the user ids: `text`, `number`, or `mixed`, where every other file has numbers.
    """
    rng = np.random.default_rng(5)
    pairs = [(u, int(i)) for u in range(N_USERS) for i in rng.permutation(N_ITEMS)[: 3 + u % 7]]
    pairs += [(7, i) for i in range(N_ITEMS - 1)]  # one user has nearly everything
    pairs = [pairs[place] for place in rng.permutation(len(pairs))]
    held = {"valid": pairs[:40], "test_ood": pairs[40:70], "test": [(777, 3), (7, 777), (2, 5)]}
    rest = pairs[70:]
    rest += rest[::9]  # repeated, also in other files
    for part, rows, n in (("train", rest, 5), *((p, r, 2) for p, r in held.items())):
        (folder / part).mkdir(parents=True)
        for number in range(n):
            own = rows[number::n]
            users: list[Any] = [u * 3 for u, _ in own]
            if kind == "text" or (kind == "mixed" and number % 2):
                users = [f"u{u:x}" if kind == "text" else str(u) for u in users]
            frame = {
                "user_id": users,
                "item_id": [f"i{i}" for _, i in own],
                "time": [0.5] * len(own),
            }
            pl.DataFrame(frame).write_parquet(folder / part / f"{number}.parquet")
    empty = pl.DataFrame(schema={"user_id": pl.Int64, "item_id": pl.Int64})
    empty.write_parquet(folder / "train" / "empty.parquet")
    (folder / "train" / "_SUCCESS").touch()
    (folder / "not_candidate.txt").write_text("i3\ni999\n")
    (folder / "notes.csv").touch()
    return folder


def read_whole(folder: Path) -> Any:
    """Read the parts as frames and put them together, in the order of the files."""
    from contrarec import Dataset

    def read(part: str) -> pl.DataFrame:
        files = sorted((folder / part).glob("*.parquet"))
        frames = [pl.read_parquet(file, columns=["user_id", "item_id"]) for file in files]
        texts = any(frame["user_id"].dtype == pl.String for frame in frames)
        user = pl.String if texts else pl.Int64
        return pl.concat(frame.cast({"user_id": user, "item_id": pl.String}) for frame in frames)

    return Dataset.from_parts(
        train=read("train"),
        valid=read("valid"),
        tests={"test": read("test"), "ood": read("test_ood")},
        not_candidates=["i3", "i999"],
        name=folder.name,
    )
