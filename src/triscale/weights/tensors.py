"""Read safetensors files with strict checks, and write them one tensor at a time.

::

    header length (8 bytes, little-endian) | header (JSON, padded to 8 bytes) | bytes of the tensors
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from triscale.errors import WeightsError
from triscale.record import atomic_file

MAX_HEADER_BYTES = 4 << 20
"""Maximum size of the header; ten thousand tensors need less than 2 MB."""

TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}

DIGEST_KEY = "tensors_sha256"
_CHUNK = 8 << 20


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a safetensors file, checked against the file size.

    Attributes:
        metadata: Strings added by the writer.
        data_start: Offset of the first byte of the tensors.
    """

    metadata: dict[str, str]
    data_start: int


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file, memory-mapped, and its metadata.

    Files written by :func:`write_tensors` contain the SHA-256 of their tensors, which is verified.

    Raises:
        WeightsError: The file is truncated or altered, or its header does not match its content.
    """
    header = read_header(path)
    recorded = header.metadata.get(DIGEST_KEY)
    if recorded is not None and recorded != _digest_of_data(path, header.data_start):
        raise WeightsError(
            f"{path} was altered after it was written: its tensors do not have the SHA-256 in its header"
        )
    try:
        return safetensors.torch.load_file(path), header.metadata
    except SafetensorError as error:
        raise WeightsError(
            f"{path} is not a complete safetensors file ({error}); download or create it again"
        ) from error


def read_header(path: Path) -> Header:
    """Return the header of a safetensors file.

    Raises:
        WeightsError: It is missing, too long, or does not match the bytes that follow it exactly.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise WeightsError(
                f"{path} is not a complete safetensors file: it has {size} bytes, and its header alone should have "
                f"{length}; download or create it again"
            )
        if length > MAX_HEADER_BYTES:
            raise WeightsError(f"{path} has a header of {length} bytes; expected at most {MAX_HEADER_BYTES}")
        text = file.read(length)
    try:
        entries = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} has a header that is not valid safetensors JSON ({error})") from error
    if not isinstance(entries, dict):
        raise WeightsError(f"{path} has a header that is not a JSON object")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise WeightsError(f"{path} has metadata that is not text")
    _check_entries(path, entries, size - 8 - length)
    return Header(metadata, 8 + length)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically, with only one tensor on the CPU at a time.

    Args:
        path: The file to write.
        tensors: The tensors by name, of the types in :data:`TYPES`.
        metadata: Strings for the header; the SHA-256 of the tensors is added.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_tensors(Path(folder) / "a.safetensors", {"weight": torch.ones(2)}, {"author": "me"})
        ...     tensors, metadata = read_tensors(Path(folder) / "a.safetensors")
        >>> tensors["weight"].tolist(), metadata["author"]
        ([1.0, 1.0], 'me')
    """
    ordered = sorted(tensors)
    digest = hashlib.sha256()
    # Hashed before writing, since the digest is part of the header, which comes first.
    for name in ordered:
        digest.update(_bytes_of(tensors[name]))
    with atomic_file(path) as file:
        file.write(_header_of(tensors, ordered, dict(metadata) | {DIGEST_KEY: digest.hexdigest()}))
        for name in ordered:
            file.write(_bytes_of(tensors[name]))


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    return _digest_of_data(path, 0)


def _header_of(tensors: Mapping[str, Tensor], ordered: list[str], metadata: dict[str, str]) -> bytes:
    letters = {kind: letter for letter, kind in TYPES.items()}
    entries: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name in ordered:
        tensor, start = tensors[name], end
        end += tensor.numel() * tensor.element_size()
        entries[name] = {"dtype": letters[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # aligned, so that the tensors can be memory-mapped
    return len(text).to_bytes(8, "little") + text


def _bytes_of(tensor: Tensor) -> Any:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else b""


def _digest_of_data(path: Path, start: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a key occurs twice")
    return entries


def _check_entries(path: Path, entries: dict[str, Any], data_bytes: int) -> None:
    """Check that the entries cover the data exactly, without gaps and overlaps."""
    end = 0
    for name, start, stop, expected in sorted(_spans(path, entries), key=lambda span: (span[1], span[2])):
        if start != end or stop - start != expected:
            raise WeightsError(
                f'{path} has an inconsistent header: "{name}" has the bytes {start} to {stop}, and its shape '
                f"needs {expected} from byte {end}"
            )
        end = stop
    if end != data_bytes:
        raise WeightsError(
            f"{path} is not a complete safetensors file: its header describes {end} bytes of tensors, and {data_bytes} "
            "follow; download or create it again"
        )


def _spans(path: Path, entries: dict[str, Any]) -> Iterator[tuple[str, int, int, int]]:
    """Yield name, start, end, and the number of bytes that type and shape need."""
    for name, entry in entries.items():
        match entry:
            case {"dtype": str(letter), "shape": list(shape), "data_offsets": [int(start), int(stop)]} if (
                letter in TYPES and all(isinstance(side, int) and side >= 0 for side in shape)
            ):
                yield name, start, stop, math.prod(shape) * TYPES[letter].itemsize
            case _:
                raise WeightsError(f'{path} has an invalid entry for "{name}" in its header: {str(entry)[:100]}')
