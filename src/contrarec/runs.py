"""A run is a folder; this is the one place that knows what its files are called.

- `config.toml`: every setting, the data it was trained on, the versions.
- `ids.parquet`: user and item ids in the order of their indices.
- `history.safetensors`: the training interactions, as compressed sparse rows.
- `model.safetensors`: the weights of the best epoch; written last.
- `result.json`: what `contrarec train --json` prints.
- `metrics.jsonl`, `state/`: the course of training, and what is needed to go on with it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from contrarec.config import dumps_toml, read_toml
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import ConfigError, DataError
from contrarec.files import replacing, write_text
from contrarec.settings import Settings
from contrarec.tensorfile import load_tensors, save_tensors

_CONFIG, _IDS = "config.toml", "ids.parquet"
_HISTORY, _MODEL, _RESULT = "history.safetensors", "model.safetensors", "result.json"


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


def begin(folder: Path, settings: Settings, data: RunData, history: Interactions) -> None:
    """Write everything that is known before training: settings, ids, history.

    Raises:
        ConfigError: the folder already holds a run.
    """
    if is_started(folder):
        raise ConfigError(
            f"{folder}: already holds a run; resume it (--resume) or choose another folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_ids(folder / _IDS, history.users, history.items)
    tensors = {
        "indptr": torch.from_numpy(history.indptr),
        "indices": torch.from_numpy(history.indices),
    }
    save_tensors(folder / _HISTORY, tensors, {})
    tables = settings.to_mapping() | {"data": vars(data), "versions": _versions()}
    write_text(folder / _CONFIG, dumps_toml(tables))


def finish(folder: Path, weights: dict[str, torch.Tensor], result: dict[str, Any]) -> None:
    """Write the trained weights and the result; from then on the run counts as finished."""
    save_tensors(folder / _MODEL, weights, {})
    write_text(folder / _RESULT, json.dumps(result, indent=2) + "\n")


def is_started(folder: Path) -> bool:
    """Whether the folder holds a run, finished or not."""
    return (folder / _CONFIG).is_file()


def is_finished(folder: Path) -> bool:
    """Whether training in this folder has come to its end."""
    return (folder / _RESULT).is_file()


def read_settings(folder: Path) -> tuple[Settings, RunData]:
    """Read a run's settings and what it remembers of its data.

    Raises:
        DataError: the folder holds no run.
        ConfigError: its `config.toml` is not a run's.
    """
    path = folder / _CONFIG
    if not path.is_file():
        raise DataError(f"{folder}: not a run (no {_CONFIG} in it).")
    tables = read_toml(path)
    tables.pop("versions", None)
    try:
        data = RunData(**tables.pop("data"))
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{path}: no usable [data] section ({error}).") from error
    return Settings.from_mapping(tables, where=str(path)), data


def read_history(folder: Path) -> Interactions:
    """Read the training interactions of a run, with its ids."""
    users, items = read_ids(folder / _IDS)
    tensors, _ = load_tensors(folder / _HISTORY)
    indptr, indices = tensors["indptr"].numpy(), tensors["indices"].numpy()
    return Interactions(indptr=indptr, indices=indices, users=users, items=items)


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Read the trained weights of a run.

    Raises:
        DataError: training has not come to its end, or the file is damaged.
    """
    if not (folder / _MODEL).is_file():
        raise DataError(
            f"{folder}: training has not finished (no {_MODEL}); resume it with --resume."
        )
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
    parts = [
        pl.DataFrame(
            {
                "kind": pl.Series([kind], dtype=pl.String).new_from_index(0, len(vocabulary)),
                "index": np.arange(len(vocabulary), dtype=np.int32),
                "id": vocabulary.ids.cast(pl.String),
                "is_number": [vocabulary.ids.dtype == pl.Int64] * len(vocabulary),
            }
        )
        for kind, vocabulary in (("user", users), ("item", items))
    ]
    with replacing(path) as temporary:
        pl.concat(parts).write_parquet(temporary)


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
