"""Safetensors files, read with suspicion and written a tensor at a time."""

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
"""The header of a network with ten thousand tensors is below 2 MB."""

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
_PIECE = 8 << 20


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says about itself, checked against its size.

    Attributes:
        metadata: text of the writer.
        data_start: where the tensors' bytes begin.
    """

    metadata: dict[str, str]
    data_start: int


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file, mapped from the disk, and its metadata.

    A file of our own carries the SHA-256 of its tensors, which must agree.

    Raises:
        WeightsError: the file is not whole, altered, or its header does not describe it.
    """
    header = read_header(path)
    said = header.metadata.get(DIGEST_KEY)
    if said is not None and said != _digest_of_data(path, header.data_start):
        raise WeightsError(
            f"{path} was altered since it was written: its tensors do not have the SHA-256 in its header"
        )
    try:
        return safetensors.torch.load_file(path), header.metadata
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a whole safetensors file ({error}); fetch or make it again") from error


def read_header(path: Path) -> Header:
    """Return the header of a safetensors file.

    Raises:
        WeightsError: it is missing, too long, or does not describe the bytes that follow it exactly.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise WeightsError(
                f"{path} is not a whole safetensors file: {size} bytes, of which its header alone is said to take "
                f"{length}; fetch or make it again"
            )
        if length > MAX_HEADER_BYTES:
            raise WeightsError(f"{path} has a header of {length} bytes; at most {MAX_HEADER_BYTES} are read")
        text = file.read(length)
    try:
        entries = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} has a header that is no JSON of safetensors ({error})") from error
    if not isinstance(entries, dict):
        raise WeightsError(f"{path} has a header that is no JSON object")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise WeightsError(f"{path} has metadata that is not text")
    _check_entries(path, entries, size - 8 - length)
    return Header(metadata, 8 + length)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors to a safetensors file that is whole or absent, holding one of them at a time.

    The SHA-256 of their bytes is added to the metadata.
    """
    ordered = sorted(tensors)
    digest = hashlib.sha256()
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
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _bytes_of(tensor: Tensor) -> Any:
    whole = tensor.detach().cpu().contiguous().reshape(-1)
    return whole.view(torch.uint8).numpy().data if whole.numel() else b""


def _digest_of_data(path: Path, start: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _check_entries(path: Path, entries: dict[str, Any], data_bytes: int) -> None:
    """Make sure that the entries cover the data exactly, without gaps and overlaps."""
    end = 0
    for name, start, stop, expected in sorted(_spans(path, entries), key=lambda span: (span[1], span[2])):
        if start != end or stop - start != expected:
            raise WeightsError(
                f'{path} has a header that lies: "{name}" is said to take the bytes {start} to {stop}, and its shape '
                f"takes {expected} from byte {end}"
            )
        end = stop
    if end != data_bytes:
        raise WeightsError(
            f"{path} is not a whole safetensors file: its header describes {end} bytes of tensors, and {data_bytes} "
            "follow; fetch or make it again"
        )


def _spans(path: Path, entries: dict[str, Any]) -> Iterator[tuple[str, int, int, int]]:
    """Yield name, first and last byte, and the number of bytes that the shape takes."""
    for name, entry in entries.items():
        match entry:
            case {"dtype": str(letter), "shape": list(shape), "data_offsets": [int(start), int(stop)]} if (
                letter in TYPES and all(isinstance(side, int) and side >= 0 for side in shape)
            ):
                yield name, start, stop, math.prod(shape) * TYPES[letter].itemsize
            case _:
                raise WeightsError(f'{path} describes "{name}" in a way that safetensors does not: {str(entry)[:100]}')
