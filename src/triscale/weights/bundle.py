"""TensorFlow's checkpoints of version 2, read without TensorFlow.

The ``.index`` file is a sorted table of LevelDB whose values are protocol buffers (``BundleEntryProto`` of
``tensorflow/core/protobuf/tensor_bundle.proto``); the ``.data`` files hold the tensors' bytes. Both carry CRC-32C.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from triscale.errors import WeightsError
from triscale.weights.crc import crc32c, unmasked

Values = NDArray[Any]

MAGIC = 0xDB4775248B80FB57
MAX_INDEX_BYTES = 64 << 20
_FOOTER = 48
_TRAILER = 5

_TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    9: np.dtype("<i8"),
    19: np.dtype("<f2"),
}
"""Of ``tensorflow/core/framework/types.proto``; variables of other types hold no weights and are passed over."""

AVERAGE = "/ExponentialMovingAverage"
SLOTS = ("/RMSProp", "/RMSProp_1", "/Momentum", "/Adam", "/Adam_1")
COUNTERS = ("global_step", "_CHECKPOINTABLE_OBJECT_GRAPH", "beta1_power", "beta2_power")

_VALUES = {
    "kernel": ("weight", (3, 2, 0, 1)),
    "depthwise_kernel": ("weight", (2, 3, 0, 1)),
    "gamma": ("weight", None),
    "beta": ("bias", None),
    "bias": ("bias", None),
    "moving_mean": ("running_mean", None),
    "moving_variance": ("running_var", None),
}
"""What a layer's value is called in torch, and the order of its axes there."""


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int


def read_bundle(index: Path) -> dict[str, Values]:
    """Return the numeric variables of a checkpoint by their names, mapped from the disk.

    Args:
        index: the ``.index`` file, its name without that ending, or a folder with one checkpoint.

    Raises:
        WeightsError: files are missing, cut off or altered, the index is compressed, or describes what is not there.
    """
    path = _index_file(index)
    try:
        entries = {name: _entry(value, path, name) for name, value in _pairs(path)}
    except (IndexError, UnicodeDecodeError, struct.error) as error:
        raise WeightsError(f"{path} is damaged: its table cannot be followed") from error
    header = entries.pop("", None)
    if header is None:
        raise WeightsError(f"{path} is no index of a TensorFlow checkpoint: its header is missing")
    shards: dict[int, Values] = {}
    taken: dict[int, int] = {}
    found: dict[str, Values] = {}
    for name, entry in entries.items():
        if entry.kind not in _TYPES:
            continue
        if entry.shard not in shards:
            shards[entry.shard] = _shard(path, entry.shard)
        taken[entry.shard] = taken.get(entry.shard, 0) + entry.size
        if taken[entry.shard] > len(shards[entry.shard]):
            raise WeightsError(f"{path} describes more than its data file holds: it is cut off; fetch it again")
        found[name] = _variable(shards[entry.shard], entry, path, name)
    return found


def to_torch(variables: Mapping[str, Values]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return variables with torch's names of values and order of axes, and sentences that say which were taken.

    Exponential moving averages are preferred; what an optimizer keeps and counters are left out. A scope that all
    names begin with is taken off: ``efficientnet-b0/stem/conv2d/kernel`` becomes ``stem/conv2d.weight``.

    Raises:
        WeightsError: a variable that is none of a layer.
    """
    plain = {
        name: values
        for name, values in variables.items()
        if not name.endswith((*SLOTS, AVERAGE)) and name.rpartition("/")[2] not in COUNTERS
    }
    averaged = [name for name in plain if name + AVERAGE in variables]
    scopes = {name.partition("/")[0] for name in plain}
    scope = f"{next(iter(scopes))}/" if len(scopes) == 1 else ""
    state: dict[str, Tensor] = {}
    for name, values in plain.items():
        layer, _, value = name.removeprefix(scope).rpartition("/")
        if value not in _VALUES or not layer:
            raise WeightsError(f'the checkpoint has a variable "{name}" that is none of a layer')
        renamed, axes = _VALUES[value]
        chosen = np.asarray(variables[name + AVERAGE] if name in averaged else values)
        if axes is not None:
            chosen = chosen.transpose(axes if chosen.ndim == len(axes) else None)
        state[f"{layer}.{renamed}"] = torch.from_numpy(np.array(chosen, order="C", copy=True))
    notes = [f"the moving averages of {len(averaged)} of {len(plain)} variables were taken"] if averaged else []
    if scope:
        notes.append(f'the scope "{scope}" of all names was taken off')
    return state, tuple(notes)


def _index_file(given: Path) -> Path:
    if given.is_dir():
        found = sorted(given.glob("*.index"))
        if len(found) != 1:
            raise WeightsError(f"{given} holds {len(found)} checkpoints (.index files); expected one, or give its path")
        return found[0]
    return given if given.suffix == ".index" else given.with_name(given.name + ".index")


def _shard(index: Path, number: int) -> Values:
    found = sorted(index.parent.glob(f"{_escaped(index.stem)}.data-{number:05d}-of-*"))
    if len(found) != 1:
        raise WeightsError(
            f"{index} needs {index.stem}.data-{number:05d}-of-..., of which there are {len(found)}; "
            "put the files of the checkpoint side by side"
        )
    if not found[0].stat().st_size:
        return np.zeros(0, np.uint8)
    return np.memmap(found[0], dtype=np.uint8, mode="r")


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _variable(data: Values, entry: _Entry, path: Path, name: str) -> Values:
    kind = _TYPES[entry.kind]
    if math.prod(entry.shape) * kind.itemsize != entry.size:
        raise WeightsError(f'{path} lies about "{name}": a shape of {entry.shape} does not take {entry.size} bytes')
    content = data[entry.offset : entry.offset + entry.size]
    if len(content) != entry.size:
        raise WeightsError(f'{path} has "{name}" end outside of its data file; fetch it again')
    if crc32c(content.view(np.uint8)) != unmasked(entry.crc):
        raise WeightsError(f'the values of "{name}" beside {path} were altered (CRC-32C); fetch the checkpoint again')
    values: Values = content.view(kind).reshape(entry.shape)
    return values


def _pairs(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the keys and values of the table in their order; where it cannot be followed, what Python raises."""
    try:
        size = path.stat().st_size
        if not _FOOTER < size <= MAX_INDEX_BYTES:
            raise WeightsError(f"{path} has {size} bytes; an index of a checkpoint has {_FOOTER} to {MAX_INDEX_BYTES}")
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from error
    footer = content[-_FOOTER:]
    if struct.unpack("<Q", footer[-8:])[0] != MAGIC:
        raise WeightsError(f"{path} is no index of a TensorFlow checkpoint, or is cut off")
    _, at = _handle(footer, 0)
    (offset, length), _ = _handle(footer, at)
    covered = 0
    for _, place in _block(content, offset, length, path):
        (start, size), _ = _handle(place, 0)
        covered += size
        if covered > len(content):
            raise WeightsError(f"{path} is no index that TensorFlow wrote: its blocks overlap")
        for key, value in _block(content, start, size, path):
            yield key.decode(), value


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    offset, at = _varint(data, at)
    length, at = _varint(data, at)
    return (offset, length), at


def _block(content: bytes, offset: int, length: int, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of one block; keys share their beginnings with the one before."""
    end = offset + length
    if end + _TRAILER > len(content):
        raise WeightsError(f"{path} is damaged: a block lies outside of the file")
    if content[end] != 0:
        raise WeightsError(f"{path} has compressed blocks, which TensorFlow does not write and Triscale does not read")
    signed = np.frombuffer(content, np.uint8, length + 1, offset)
    if crc32c(signed) != unmasked(struct.unpack_from("<I", content, end + 1)[0]):
        raise WeightsError(f"{path} was altered (CRC-32C of a block); fetch the checkpoint again")
    block = content[offset:end]
    restarts = struct.unpack_from("<I", block, length - 4)[0]
    stop, at, key = length - 4 - 4 * restarts, 0, b""
    while at < stop:
        shared, at = _varint(block, at)
        more, at = _varint(block, at)
        value_length, at = _varint(block, at)
        if shared > len(key) or at + more + value_length > stop:
            raise WeightsError(f"{path} is damaged: an entry of its table is longer than its block")
        key = key[:shared] + block[at : at + more]
        at += more
        yield key, block[at : at + value_length]
        at += value_length


def _entry(value: bytes, path: Path, name: str) -> _Entry:
    fields = dict(_fields(value))
    if not name:  # the header, whose fields are others
        return _Entry(0, (), 0, 0, 0, 0)
    if 7 in fields:
        raise WeightsError(f'{path} keeps "{name}" in slices, which Triscale does not read')
    sides = [
        _number(dict(_fields(dimension)), 1)
        for number, dimension in _fields(fields.get(2, b""))
        if number == 2 and isinstance(dimension, bytes)
    ]
    kind, shard, offset, size, crc = (_number(fields, number) for number in (1, 3, 4, 5, 6))
    return _Entry(kind, tuple(sides), shard, offset, size, crc)


def _number(fields: dict[int, int | bytes], number: int) -> int:
    value = fields.get(number, 0)
    if isinstance(value, bytes):
        raise IndexError
    return value


def _fields(data: int | bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a protocol buffer: number, and a number or bytes."""
    if isinstance(data, int):
        raise IndexError
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                value, at = _varint(data, at)
                yield tag >> 3, value
            case 1:
                yield tag >> 3, struct.unpack_from("<Q", data, at)[0]
                at += 8
            case 2:
                length, at = _varint(data, at)
                yield tag >> 3, data[at : at + length]
                at += length
            case 5:
                yield tag >> 3, struct.unpack_from("<I", data, at)[0]
                at += 4
            case _:
                raise IndexError


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise IndexError
