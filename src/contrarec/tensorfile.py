"""Tensors on disk: one safetensors file, written atomically, checked before it is believed."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from contrarec.errors import DataError
from contrarec.files import replacing

_FORMAT = "contrarec-1"
_TYPES = {
    torch.float32: "F32", torch.float64: "F64", torch.bfloat16: "BF16", torch.int32: "I32",
    torch.int64: "I64", torch.bool: "BOOL",
}  # fmt: skip
"""What safetensors calls them."""


@dataclass(frozen=True)
class InPieces:
    """A tensor that need never be whole in memory."""

    dtype: torch.dtype
    """Of its numbers."""
    shape: tuple[int, ...]
    """Of the whole."""
    pieces: Callable[[], Iterable[torch.Tensor]]
    """Returns its rows, some at a time and in order."""


def save_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor | InPieces], meta: dict[str, Any]
) -> None:
    """Write tensors and a JSON-able description of them; an existing file is replaced atomically.

    Args:
        path: the file to write.
        tensors: by name, on any device. With one that comes in pieces, no more than a piece is
            copied.
        meta: what belongs to them; floats survive exactly.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}
    if len(whole) < len(tensors):
        with replacing(path) as temporary:
            _write_pieces(temporary, {name: _in_pieces(t) for name, t in tensors.items()}, meta)
        return
    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in whole.items()}
    header = {"format": _FORMAT, "meta": json.dumps(meta), "sha256": _digest(ready)}
    with replacing(path) as temporary:
        save_file(ready, temporary, metadata=header)


def _write_pieces(path: Path, tensors: dict[str, InPieces], meta: dict[str, Any]) -> None:
    """Write what `save_file` would; pieces come in the order of the checksum, that of names."""
    digest, unknown = hashlib.sha256(), "0" * 64
    about = {"format": _FORMAT, "meta": json.dumps(meta), "sha256": unknown}
    header: dict[str, Any] = {"__metadata__": about}
    end = 0
    for name in sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name)):  # aligned
        tensor, start = tensors[name], end
        end += torch.Size(tensor.shape).numel() * tensor.dtype.itemsize
        dtype = _TYPES[tensor.dtype]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("w+b") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(tensors):
            tensor, (start, end) = tensors[name], header[name]["data_offsets"]
            digest.update(_title(name, tensor.dtype, tensor.shape))
            file.seek(8 + len(text) + start)
            for piece in tensor.pieces():
                raw = _raw(piece.detach().cpu().contiguous())
                digest.update(raw)
                file.write(raw)
            n_bytes = file.tell() - 8 - len(text) - start
            if n_bytes != end - start:
                raise DataError(
                    f"{path}: `{name}` must have {end - start} bytes, got pieces of {n_bytes}."
                )
        file.seek(8 + text.index(b'"sha256": "' + unknown.encode()) + len(b'"sha256": "'))
        file.write(digest.hexdigest().encode())


def _in_pieces(tensor: "torch.Tensor | InPieces") -> InPieces:
    if isinstance(tensor, InPieces):
        return tensor
    return InPieces(tensor.dtype, tuple(tensor.shape), lambda: [tensor])


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


def shape_of(path: Path, name: str) -> tuple[int, ...]:
    """Return the shape of a tensor in a file that `save_tensors` wrote, without reading it."""
    with safe_open(path, framework="pt") as file:
        return tuple(file.get_slice(name).get_shape())


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(_title(name, tensor.dtype, tensor.shape))
        digest.update(_raw(tensor))
    return digest.hexdigest()


def _raw(tensor: torch.Tensor) -> memoryview:
    """Return the bytes of a contiguous tensor, without a copy."""
    if not tensor.numel():  # its strides may be anything, which torch would refuse to view
        return memoryview(b"")
    return tensor.view(-1).view(torch.uint8).numpy().data


def _title(name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> bytes:
    return f"{name}:{dtype}:{tuple(shape)};".encode()


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
