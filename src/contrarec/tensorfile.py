"""Tensors on disk: one safetensors file, written atomically, checked before it is believed."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from contrarec.errors import DataError
from contrarec.files import replacing

_FORMAT = "contrarec-1"


def save_tensors(path: Path, tensors: dict[str, torch.Tensor], meta: dict[str, Any]) -> None:
    """Write tensors and a JSON-able description of them; an existing file is replaced atomically.

    Args:
        path: the file to write.
        tensors: by name, on any device.
        meta: what belongs to them; floats survive exactly.
    """
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {"format": _FORMAT, "meta": json.dumps(meta), "sha256": _digest(ready)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        save_file(ready, temporary, metadata=header)


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote. The file is never changed.

    Raises:
        DataError: there is no such file, it is damaged, or it is not one of contrarec's.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: damaged or not a safetensors file ({error}).") from error
    if header.get("format") != _FORMAT:
        raise DataError(
            f"{path}: not written by this version of contrarec "
            f"(format {header.get('format')!r}, expected {_FORMAT!r})."
        )
    if header.get("sha256") != _digest(tensors):
        raise DataError(f"{path}: damaged, its content does not match its checksum.")
    return tensors, json.loads(header["meta"])


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def pack(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Prefix the names of a state dict.

    >>> list(pack("model", {"a": torch.zeros(1)}))
    ['model.a']
    """
    return {f"{prefix}.{name}": tensor for name, tensor in state.items()}


def unpack(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Undo `pack`: the entries under `prefix`, without it."""
    start = f"{prefix}."
    return {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start)
    }
