"""The vectors that a run's recommendations are computed from, as a file that needs no torch.

`vectors.safetensors` is mapped into memory, not read: one user's recommendations touch one row of
users and the table of items. It names the weights that it was made of by their checksum, so that
it is never taken for another model's.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrarec.errors import DataError
from contrarec.files import replacing

Arrays = dict[str, NDArray[Any]]

FORMAT = "contrarec-vectors-1"
_TYPES = {"F32": "<f4", "I32": "<i4", "I64": "<i8"}
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, MemoryError, OverflowError)
"""What comes of reading something else."""


def write_vectors(path: Path, arrays: Mapping[str, NDArray[np.float32]], model: str) -> None:
    """Write vectors and the checksum of the weights that they were made of."""
    from safetensors.numpy import save_file

    with replacing(path) as temporary:
        ready = {name: np.ascontiguousarray(array, "<f4") for name, array in arrays.items()}
        save_file(ready, temporary, metadata={"format": FORMAT, "model": model})


def read_vectors(path: Path, model: str) -> Arrays | None:
    """Map the vectors of these weights; None if there are none.

    Raises:
        DataError: the file is damaged.
    """
    if not path.is_file():
        return None
    arrays, about = map_arrays(path)
    if (about.get("format"), about.get("model")) != (FORMAT, model):
        return None
    return arrays


def map_arrays(path: Path) -> tuple[Arrays, dict[str, str]]:
    """Map the tensors of a safetensors file into memory, read-only; return its metadata, too.

    The header is checked against the length of the file, the content against nothing.

    Raises:
        DataError: it is missing, cut off, or no such file.
    """
    header, start = _header(path)
    about = header.pop("__metadata__", {})
    try:
        raw = np.memmap(path, np.uint8, "r")[start:]
        arrays = {
            name: raw[slice(*entry["data_offsets"])]
            .view(_TYPES[entry["dtype"]])
            .reshape(entry["shape"])
            for name, entry in header.items()
        }
    except (OSError, *_DAMAGE) as error:
        raise DataError(f"{path}: damaged or not a safetensors file ({error}).") from error
    return arrays, about


def checksum(path: Path) -> str:
    """Return the checksum that a file of weights has in its header.

    Raises:
        DataError: there is no such file, or it has none.
    """
    header, _ = _header(path)
    checked: str = header.get("__metadata__", {}).get("sha256", "")
    return checked


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Read the header of a safetensors file, and where the tensors start."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
            header.get("__metadata__")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    except _DAMAGE as error:
        raise DataError(f"{path}: damaged or not a safetensors file ({error}).") from error
    return header, 8 + size
