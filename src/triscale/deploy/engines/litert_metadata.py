"""The metadata of a LiteRT file, by which other programs know its input and labels.

TensorFlow Lite keeps them in the file as one more buffer, a FlatBuffer of its own with the identifier ``M001``, whose
schema is metadata_schema.fbs. The numbers of fields below are those of that schema; files that it names, here the
labels, are in a zip archive at the end of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from triscale.deploy.contract import Contract
from triscale.deploy.onnx_file import describe_use
from triscale.optional_import import load
from triscale.version import __version__

LABELS_FILE = "labels.txt"
NAME = "TFLITE_METADATA"
_IDENTIFIER = b"M001"
_COLORS = {1: 2, 3: 1}
"""Color spaces by number of channels: gray and RGB."""
_IMAGE_PROPERTIES, _NORMALIZATION, _AXIS_LABELS = 2, 1, 2
"""Numbers of members of the unions of contents and process units, and of the type of a file of labels."""
_BUFFER_ALIGNMENT = 16
"""Bytes to which LiteRT aligns the buffers of weights."""


def with_metadata(content: bytes, contract: Contract) -> bytes:
    """Return a LiteRT file, without an archive, with the metadata of a contract.

    Raises:
        UserError: LiteRT is not installed.
    """
    schema = load("ai_edge_litert.schema_py_generated", "LiteRT", "litert")
    model = unpacked(content)
    entry, buffer = schema.MetadataT(), schema.BufferT()
    buffer.data = np.frombuffer(metadata_of(contract), np.uint8)
    entry.name, entry.buffer = NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [one for one in model.metadata or [] if one.name != NAME.encode()] + [entry]
    builder = _aligned_builder()(len(content) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def unpacked(content: bytes) -> Any:
    """Return the model of a LiteRT file, as an object of its schema that can be changed.

    Weights that a quantizer has written behind the FlatBuffer are moved into it.

    Raises:
        UserError: LiteRT is not installed.
    """
    schema = load("ai_edge_litert.schema_py_generated", "LiteRT", "litert")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    for buffer in model.buffers:
        if buffer.offset > 1:  # 0 and 1 mean that nothing is outside
            outside = content[buffer.offset : buffer.offset + buffer.size]
            buffer.data, buffer.offset, buffer.size = np.frombuffer(outside, np.uint8), 0, 0
    return model


def metadata_of(contract: Contract) -> bytes:
    """Return the metadata of a contract as a FlatBuffer.

    Raises:
        UserError: LiteRT is not installed, which brings the library of FlatBuffers.
    """
    builder = load("flatbuffers", "LiteRT", "litert").Builder(1024)
    images = contract.preprocessing
    text, fields, floats = builder.CreateString, _Fields(builder), _floats

    def tables(offsets: Sequence[int]) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())

    options = fields.table(
        2,
        offsets={
            0: floats(builder, [255 * value for value in images.mean]),
            1: floats(builder, [255 * value for value in images.std]),
        },
    )
    unit = fields.table(2, bytes_={0: _NORMALIZATION}, offsets={1: options})
    size = fields.table(2, words={0: images.size.width, 1: images.size.height})
    properties = fields.table(2, bytes_={0: _COLORS.get(images.channels, 0)}, offsets={1: size})
    content = fields.table(3, bytes_={0: _IMAGE_PROPERTIES}, offsets={1: properties})
    low, high = (
        [(bound - mean) / std for mean, std in zip(images.mean, images.std, strict=True)] for bound in (0.0, 1.0)
    )
    stats = fields.table(2, offsets={0: floats(builder, high), 1: floats(builder, low)})
    image = fields.table(
        7,
        offsets={
            0: text("images"),
            1: text("Normalized image [1, channels, height, width]"),
            3: content,
            4: tables([unit]),
            5: stats,
        },
    )
    labels = fields.table(
        5, bytes_={2: _AXIS_LABELS}, offsets={0: text(LABELS_FILE), 1: text("The classes, one in each line")}
    )
    logits = fields.table(7, offsets={0: text("logits"), 1: text("One logit for each class"), 6: tables([labels])})
    graph = fields.table(10, offsets={2: tables([image]), 3: tables([logits])})
    root = fields.table(
        8,
        offsets={
            0: text(contract.network),
            1: text(describe_use(contract)),
            2: text(__version__),
            3: tables([graph]),
            4: text("triscale"),
        },
    )
    builder.Finish(root, _IDENTIFIER)
    return bytes(builder.Output())


class _Fields:
    """Writes tables whose fields have numbers instead of names."""

    def __init__(self, builder: Any) -> None:
        self._builder = builder

    def table(
        self,
        num_fields: int,
        *,
        offsets: Mapping[int, int] | None = None,
        bytes_: Mapping[int, int] | None = None,
        words: Mapping[int, int] | None = None,
    ) -> int:
        """Write a table with fields that are references, bytes and 32-bit numbers."""
        builder = self._builder
        builder.StartObject(num_fields)
        for number, offset in (offsets or {}).items():
            builder.PrependUOffsetTRelativeSlot(number, offset, 0)
        for number, value in (words or {}).items():
            builder.PrependUint32Slot(number, value, 0)
        for number, value in (bytes_ or {}).items():
            builder.PrependInt8Slot(number, value, 0)
        return int(builder.EndObject())


def _floats(builder: Any, values: Sequence[float]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return int(builder.EndVector())


def _aligned_builder() -> Callable[[int], Any]:
    """Return a builder that aligns vectors of bytes, such as weights, as the schema of LiteRT demands.

    The generated code of the schema in Python leaves it out.
    """
    base: Any = load("flatbuffers", "LiteRT", "litert").Builder

    class AlignedBuilder(base):  # type: ignore[misc]
        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:  # noqa: N802, N803 - of flatbuffers
            return int(super().StartVector(elemSize, numElems, _BUFFER_ALIGNMENT if elemSize == 1 else alignment))

    return AlignedBuilder
