"""Read TensorFlow V2 checkpoints without TensorFlow.

The ``.index`` file is a LevelDB table (https://github.com/google/leveldb/blob/main/doc/table_format.md) whose values
are protocol buffers (``BundleEntryProto`` of ``tensorflow/core/protobuf/tensor_bundle.proto``). The ``.data`` files
hold the bytes of the tensors. Both are protected by CRC-32C.

::

    .index:  data block | ... | index block | footer (48 bytes: handles of metaindex and index block, magic)
    block:   (shared key bytes, new key bytes, value bytes, key suffix, value) x N | restart array | type | CRC
    .data:   tensor | tensor | ...      at the offsets and sizes in the values of the index
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
from triscale.weights.crc import crc32c, unmask_crc

Values = NDArray[Any]

MAGIC = 0xDB4775248B80FB57
MAX_INDEX_BYTES = 64 << 20
_FOOTER = 48
_TRAILER = 5  # after each block: one byte for the compression type, four for the CRC

_TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    9: np.dtype("<i8"),
    19: np.dtype("<f2"),
}
"""The numeric types of ``tensorflow/core/framework/types.proto``; variables of other types are skipped."""

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
"""The name of each variable of a layer in PyTorch, and the permutation of its axes (HWIO to OIHW)."""


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int


def read_bundle(index: Path) -> dict[str, Values]:
    """Return the numeric variables of a checkpoint by name, memory-mapped.

    Args:
        index: The ``.index`` file, its name without the suffix, or a folder with one checkpoint.

    Raises:
        WeightsError: Files are missing, truncated or altered, the index is compressed, or does not match the data.
    """
    path = _index_file(index)
    try:
        entries = {name: _entry(value, path, name) for name, value in _pairs(path)}
    except (IndexError, UnicodeDecodeError, struct.error) as error:
        raise WeightsError(f"{path} is damaged: its table cannot be parsed; download it again") from error
    header = entries.pop("", None)
    if header is None:
        raise WeightsError(f"{path} is not the index of a TensorFlow checkpoint: its header is missing")
    shards: dict[int, Values] = {}
    read_bytes: dict[int, int] = {}
    variables: dict[str, Values] = {}
    for name, entry in entries.items():
        if entry.kind not in _TYPES:
            continue
        if entry.shard not in shards:
            shards[entry.shard] = _shard(path, entry.shard)
        # Overlapping entries would let a small file claim a lot of memory.
        read_bytes[entry.shard] = read_bytes.get(entry.shard, 0) + entry.size
        if read_bytes[entry.shard] > len(shards[entry.shard]):
            raise WeightsError(f"{path} describes more than its data file holds: it is truncated; download it again")
        variables[name] = _variable(shards[entry.shard], entry, path, name)
    return variables


def to_torch(variables: Mapping[str, Values]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Convert variables to PyTorch's names and axis order.

    Exponential moving averages are preferred; optimizer state and counters are left out. A scope that all names share
    is removed: ``efficientnet-b0/stem/conv2d/kernel`` becomes ``stem/conv2d.weight``.

    Args:
        variables: The result of :func:`read_bundle`.

    Returns:
        The state dict, and notes on the choices made.

    Raises:
        WeightsError: A variable does not belong to a layer.

    Example:
        >>> state, _ = to_torch({"stem/conv2d/kernel": np.zeros((3, 3, 1, 8), np.float32)})
        >>> {name: tuple(value.shape) for name, value in state.items()}
        {'conv2d.weight': (8, 1, 3, 3)}
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
            raise WeightsError(f'the checkpoint has a variable "{name}" that does not belong to a layer')
        renamed, axes = _VALUES[value]
        chosen = np.asarray(variables[name + AVERAGE] if name in averaged else values)
        if axes is not None:
            chosen = chosen.transpose(axes if chosen.ndim == len(axes) else None)
        state[f"{layer}.{renamed}"] = torch.from_numpy(np.array(chosen, order="C", copy=True))
    notes = [f"used the moving averages of {len(averaged)} of {len(plain)} variables"] if averaged else []
    if scope:
        notes.append(f'removed the scope "{scope}" from all names')
    return state, tuple(notes)


def _index_file(path: Path) -> Path:
    if path.is_dir():
        indexes = sorted(path.glob("*.index"))
        if len(indexes) != 1:
            raise WeightsError(
                f"{path} holds {len(indexes)} checkpoints (.index files); expected one, or give its path"
            )
        return indexes[0]
    return path if path.suffix == ".index" else path.with_name(path.name + ".index")


def _shard(index: Path, number: int) -> Values:
    files = sorted(index.parent.glob(f"{_escaped(index.stem)}.data-{number:05d}-of-*"))
    if len(files) != 1:
        raise WeightsError(
            f"{index} needs one file {index.stem}.data-{number:05d}-of-..., and there are {len(files)}; "
            "put the files of the checkpoint into one folder"
        )
    if not files[0].stat().st_size:
        return np.zeros(0, np.uint8)
    return np.memmap(files[0], dtype=np.uint8, mode="r")


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _variable(data: Values, entry: _Entry, path: Path, name: str) -> Values:
    kind = _TYPES[entry.kind]
    if math.prod(entry.shape) * kind.itemsize != entry.size:
        raise WeightsError(f'{path} is damaged: the shape {entry.shape} of "{name}" does not take {entry.size} bytes')
    content = data[entry.offset : entry.offset + entry.size]
    if len(content) != entry.size:
        raise WeightsError(f'{path} is damaged: "{name}" ends outside of its data file; download it again')
    if crc32c(content.view(np.uint8)) != unmask_crc(entry.crc):
        raise WeightsError(f'the data file of {path} was altered: CRC-32C of "{name}" differs; download it again')
    values: Values = content.view(kind).reshape(entry.shape)
    return values


def _pairs(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the keys and values of the table in order; parsing errors are raised as Python raises them."""
    try:
        size = path.stat().st_size
        if not _FOOTER < size <= MAX_INDEX_BYTES:
            raise WeightsError(f"{path} has {size} bytes; expected {_FOOTER} to {MAX_INDEX_BYTES} for an index")
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from error
    footer = content[-_FOOTER:]
    if struct.unpack("<Q", footer[-8:])[0] != MAGIC:
        raise WeightsError(f"{path} is not the index of a TensorFlow checkpoint, or is truncated")
    _, at = _handle(footer, 0)
    (offset, length), _ = _handle(footer, at)
    covered = 0
    for _, handle in _block(content, offset, length, path):
        (start, size), _ = _handle(handle, 0)
        covered += size
        if covered > len(content):
            raise WeightsError(f"{path} was not written by TensorFlow: its blocks overlap")
        for key, value in _block(content, start, size, path):
            yield key.decode(), value


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    offset, at = _varint(data, at)
    length, at = _varint(data, at)
    return (offset, length), at


def _block(content: bytes, offset: int, length: int, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of one block; each key stores only what differs from the start of the previous one."""
    end = offset + length
    if end + _TRAILER > len(content):
        raise WeightsError(f"{path} is damaged: a block is outside of the file")
    if content[end] != 0:
        raise WeightsError(f"{path} has compressed blocks, which TensorFlow does not write and Triscale does not read")
    protected = np.frombuffer(content, np.uint8, length + 1, offset)
    if crc32c(protected) != unmask_crc(struct.unpack_from("<I", content, end + 1)[0]):
        raise WeightsError(f"{path} was altered: CRC-32C of a block differs; download the checkpoint again")
    block = content[offset:end]
    restarts = struct.unpack_from("<I", block, length - 4)[0]
    stop, at, key = length - 4 - 4 * restarts, 0, b""
    while at < stop:
        shared, at = _varint(block, at)
        unshared, at = _varint(block, at)
        value_length, at = _varint(block, at)
        if shared > len(key) or at + unshared + value_length > stop:
            raise WeightsError(f"{path} is damaged: an entry of its table is longer than its block")
        key = key[:shared] + block[at : at + unshared]
        at += unshared
        yield key, block[at : at + value_length]
        at += value_length


def _entry(value: bytes, path: Path, name: str) -> _Entry:
    fields = dict(_fields(value))
    if not name:  # the header has other fields
        return _Entry(0, (), 0, 0, 0, 0)
    if 7 in fields:
        raise WeightsError(f'{path} stores "{name}" in slices, which Triscale does not support')
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
    """Yield field numbers and values of a protocol buffer (https://protobuf.dev/programming-guides/encoding)."""
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
    # Seven bits per byte, the lowest first; the high bit says that another byte follows.
    value = shift = 0
    while shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    raise IndexError
