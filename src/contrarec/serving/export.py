"""A trained run as tables of ids and vectors, for other programs."""

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contrarec import runs
from contrarec.data.interactions import Interactions
from contrarec.errors import BackendError, ConfigError
from contrarec.files import new_folder

MANIFEST = "export.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class Exported:
    """What an export is made of."""

    run: str
    """Folder of the run."""
    history: Interactions
    """Training interactions, with all ids."""
    users: NDArray[np.float32]
    """`[n_users, dim]`; those without a history were never trained."""
    items: NDArray[np.float32]
    """`[n_items, dim]`; the score is the dot product."""

    def about(self) -> dict[str, Any]:
        """Return what a reader should know of the vectors."""
        from importlib.metadata import version

        return {
            "run": self.run,
            "score": "dot product",
            "users": len(self.users),
            "items": len(self.items),
            "dim": self.items.shape[1],
            "contrarec": version("contrarec"),
        }

    def table(self, side: str) -> pl.DataFrame:
        """Return the ids and vectors of `user` or `item` as columns `<side>_id` and `vector`."""
        ids = (self.history.users if side == "user" else self.history.items).ids
        vectors = self.users if side == "user" else self.items
        column = pl.Series("vector", np.ascontiguousarray(vectors)).cast(pl.List(pl.Float32))
        return pl.DataFrame({f"{side}_id": ids.alias(f"{side}_id"), "vector": column})


def read_exported(run: Path) -> Exported:
    """Read what a run would export.

    Raises:
        DataError: the folder holds no finished run, or a file is damaged.
        ConfigError: the run is a baseline, which has no vectors.
    """
    found = runs.map_stored(run)
    if found is not None:
        history, vectors, _ = found
    else:
        from contrarec.recommender import Recommender

        recommender = Recommender.load(run, device="cpu")
        computed = recommender.vectors()
        if computed is None:
            raise ConfigError(
                f"{run}: {recommender.settings.loss_name!r} has no vectors of users and items; "
                "write its recommendations instead (contrarec recommend --users all)."
            )
        history, vectors = recommender.answers().history, computed
    return Exported(run=str(run), history=history, users=vectors["users"], items=vectors["items"])


def to_parquet(exported: Exported, folder: Path) -> dict[str, Any]:
    """Write `users.parquet` and `items.parquet`: an id and a vector each.

    Raises:
        DataError: the folder is not empty, or cannot be written.
    """
    with exporting(exported, folder, "parquet") as (temporary, about):
        for side in ("user", "item"):
            exported.table(side).write_parquet(temporary / f"{side}s.parquet")
    return about


def to_safetensors(exported: Exported, folder: Path) -> dict[str, Any]:
    """Write `vectors.safetensors` with `users` and `items`, and the ids of their rows as Parquet.

    Raises:
        DataError: the folder is not empty, or cannot be written.
    """
    from safetensors.numpy import save_file

    with exporting(exported, folder, "safetensors") as (temporary, about):
        tables = {"users": exported.users, "items": exported.items}
        ready = {name: np.ascontiguousarray(table) for name, table in tables.items()}
        save_file(ready, temporary / "vectors.safetensors")
        for side in ("user", "item"):
            write_ids(exported, temporary, side)
    return about


def write_ids(exported: Exported, folder: Path, side: str) -> None:
    """Write the ids of one side in the order of their rows, as `<side>_ids.parquet`."""
    ids = (exported.history.users if side == "user" else exported.history.items).ids
    pl.DataFrame({f"{side}_id": ids}).write_parquet(folder / f"{side}_ids.parquet")


@contextmanager
def exporting(exported: Exported, folder: Path, kind: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield a folder to write into, and what will stand in its `export.json`; more may be added.

    Raises:
        DataError: the folder is not empty, or cannot be written.
    """
    about = {"format": kind} | exported.about()
    with new_folder(folder) as temporary:
        yield temporary, about
        text = json.dumps(about, indent=1, ensure_ascii=False)
        (temporary / MANIFEST).write_text(text + "\n", encoding="utf-8")


def load_package(name: str, extra: str, what: str) -> Any:
    """Import an optional package.

    Raises:
        BackendError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BackendError(
            f"{what} needs the package {name}: pip install 'contrarec[{extra}]' ({error})."
        ) from error
