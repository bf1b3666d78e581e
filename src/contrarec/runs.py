"""A run is a folder; this is the one place that knows what its files are called.

- `config.toml`: every setting, the data it was trained on, the versions.
- `ids.parquet`: user and item ids in the order of their indices.
- `history.safetensors`: the training interactions, as compressed sparse rows.
- `model.safetensors`: the weights of the best epoch; written last.
- `vectors.safetensors`: what recommendations are computed from, where that is a table of vectors.
- `result.json`: what `contrarec train --json` prints.
- `metrics.jsonl`, `state/`: the course of training, and what is needed to go on with it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from contrarec.config import dumps_toml, read_toml
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import ConfigError, DataError
from contrarec.files import replacing, write_text
from contrarec.vectors import Arrays, checksum, map_arrays, read_vectors, write_vectors

# torch is imported by the functions that cannot do without it: recommending can
if TYPE_CHECKING:
    import torch

    from contrarec.settings import Settings
    from contrarec.tensorfile import InPieces

_CONFIG, _IDS = "config.toml", "ids.parquet"
_HISTORY, _MODEL, _RESULT = "history.safetensors", "model.safetensors", "result.json"
_VECTORS = "vectors.safetensors"


@dataclass(frozen=True, kw_only=True)
class RunData:
    """What a run remembers of its data."""

    name: str
    """Name of the data set."""
    path: str
    """Where it was read from; empty if it never was a file."""
    fingerprint: str
    """Hash of the training interactions and ids."""
    frame: str
    """The kind of frame it came as, and that recommendations go out as."""
    features: str = ""
    """Hash of the item vectors that it was trained with, where there are any."""


def begin(folder: Path, settings: "Settings", data: RunData, history: Interactions) -> None:
    """Write everything that is known before training: settings, ids, history.

    Raises:
        ConfigError: the folder already holds a run.
    """
    import torch

    tensors = {
        "indptr": torch.from_numpy(history.indptr),
        "indices": torch.from_numpy(history.indices),
    }
    begin_with(
        folder, settings, data, lambda path: write_ids(path, history.users, history.items), tensors
    )


def begin_with(
    folder: Path,
    settings: "Settings",
    data: RunData,
    ids: Callable[[Path], None],
    history: "Mapping[str, torch.Tensor | InPieces]",
) -> None:
    """Do what `begin` does, with ids and a history that need not be in memory.

    Args:
        folder: the run's.
        settings: of the run.
        data: what the run remembers of its data.
        ids: writes what `write_ids` would.
        history: `indptr` and `indices`.

    Raises:
        ConfigError: the folder already holds a run.
    """
    refuse_started(folder)
    from contrarec.tensorfile import save_tensors

    folder.mkdir(parents=True, exist_ok=True)
    ids(folder / _IDS)
    save_tensors(folder / _HISTORY, history, {})
    tables = settings.to_mapping() | {"data": vars(data), "versions": _versions()}
    write_text(folder / _CONFIG, dumps_toml(tables))


def refuse_started(folder: Path) -> None:
    """Raise if the folder already holds a run.

    Raises:
        ConfigError: it does.
    """
    if is_started(folder):
        raise ConfigError(
            f"{folder}: already holds a run; resume it (--resume) or choose another folder."
        )


def finish(
    folder: Path,
    weights: "Mapping[str, torch.Tensor | InPieces]",
    result: dict[str, Any],
    vectors: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write the trained weights and the result; from then on the run counts as finished."""
    from contrarec.tensorfile import save_tensors

    save_tensors(folder / _MODEL, weights, {})
    if vectors is not None:
        write_vectors(folder / _VECTORS, vectors, checksum(folder / _MODEL))
    write_text(folder / _RESULT, json.dumps(result, indent=2) + "\n")


def is_started(folder: Path) -> bool:
    """Whether the folder holds a run, finished or not."""
    return (folder / _CONFIG).is_file()


def is_finished(folder: Path) -> bool:
    """Whether training in this folder has come to its end."""
    return (folder / _RESULT).is_file()


def read_settings(folder: Path) -> "tuple[Settings, RunData]":
    """Read a run's settings and what it remembers of its data.

    Raises:
        DataError: the folder holds no run.
        ConfigError: its `config.toml` is not a run's.
    """
    from contrarec.settings import Settings

    tables, data = _read_config(folder)
    return Settings.from_mapping(tables, where=str(folder / _CONFIG)), data


def _read_config(folder: Path) -> tuple[dict[str, Any], RunData]:
    path = folder / _CONFIG
    if not path.is_file():
        raise DataError(f"{folder}: not a run (no {_CONFIG} in it).")
    tables = read_toml(path)
    tables.pop("versions", None)
    try:
        return tables, RunData(**tables.pop("data"))
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{path}: no usable [data] section ({error}).") from error


def read_history(folder: Path) -> Interactions:
    """Read the training interactions of a run, with its ids."""
    from contrarec.tensorfile import load_tensors

    tensors, _ = load_tensors(folder / _HISTORY)
    return _history(folder, {name: tensor.numpy() for name, tensor in tensors.items()})


def _history(folder: Path, arrays: Arrays) -> Interactions:
    users, items = read_ids(folder / _IDS)
    indptr, indices = arrays["indptr"], arrays["indices"]
    return Interactions(indptr=indptr, indices=indices, users=users, items=items)


def map_stored(folder: Path) -> tuple[Interactions, Arrays, RunData] | None:
    """Map what a run keeps for recommending without its model: history, vectors, about its data.

    Returns:
        None if the run keeps no vectors, such as a baseline's or one that an older version wrote.

    Raises:
        DataError: the folder holds no run, or a file is damaged.
    """
    _, data = _read_config(folder)
    if not (folder / _MODEL).is_file():
        return None
    vectors = read_vectors(folder / _VECTORS, checksum(folder / _MODEL))
    if vectors is None:
        return None
    history = _history(folder, map_arrays(folder / _HISTORY)[0])
    for name, rows in (("users", history.n_users), ("items", history.n_items)):
        if len(vectors[name]) != rows:
            raise DataError(
                f"{folder / _VECTORS}: `{name}` must have {rows} rows, got {len(vectors[name])}."
            )
    return history, vectors, data


def read_weights(folder: Path) -> "dict[str, torch.Tensor]":
    """Read the trained weights of a run.

    Raises:
        DataError: training has not come to its end, or the file is damaged.
    """
    if not (folder / _MODEL).is_file():
        raise DataError(
            f"{folder}: training has not finished (no {_MODEL}); resume it with --resume."
        )
    from contrarec.tensorfile import load_tensors

    return load_tensors(folder / _MODEL)[0]


def read_result(folder: Path) -> dict[str, Any]:
    """Read what training reported at its end."""
    result: dict[str, Any] = json.loads((folder / _RESULT).read_text(encoding="utf-8"))
    return result


def read_versions(folder: Path) -> dict[str, str]:
    """Read which versions of what a run was started with."""
    versions: dict[str, str] = read_toml(folder / _CONFIG).get("versions", {})
    return versions


def write_ids(path: Path, users: Vocabulary, items: Vocabulary) -> None:
    """Write both vocabularies as one Parquet table: kind, index, id and whether it is a number."""
    parts = [id_table("user", users), id_table("item", items)]
    with replacing(path) as temporary:
        pl.concat(parts).write_parquet(temporary)


def id_table(kind: str, ids: Vocabulary, first: int = 0) -> pl.DataFrame:
    """Return the rows of `ids.parquet` for some users or items.

    Args:
        kind: `user` or `item`.
        ids: in order.
        first: index of the first of them.
    """
    return pl.DataFrame(
        {
            "kind": pl.Series([kind], dtype=pl.String).new_from_index(0, len(ids)),
            "index": np.arange(first, first + len(ids), dtype=np.int32),
            "id": ids.ids.cast(pl.String),
            "is_number": [ids.ids.dtype == pl.Int64] * len(ids),
        }
    )


def read_ids(path: Path) -> tuple[Vocabulary, Vocabulary]:
    """Read what `write_ids` wrote.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        table = pl.read_parquet(path)
        parts = {
            kind: table.filter(pl.col("kind") == kind).sort("index") for kind in ("user", "item")
        }
        users, items = (
            part["id"].cast(pl.Int64) if part["is_number"].all() else part["id"]
            for part in parts.values()
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: missing or damaged ({error}).") from error
    return Vocabulary(users), Vocabulary(items)


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("contrarec", "torch", "numpy")}
