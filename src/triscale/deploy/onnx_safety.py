"""Check an ONNX file of any origin before an engine opens it.

An engine reads external data wherever the file says, and loads what its operations ask for. Nothing of that is accepted
from outside the folder of the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper

from triscale.errors import RecordError

DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc")
"""The domains of operations that ONNX Runtime itself has."""

_PER_BYTE = {"INT4": 2, "UINT4": 2, "FLOAT4E2M1": 2, "INT2": 4, "UINT2": 4}
"""Values in a byte of the types that are smaller than one."""

MAX_DEPTH = 20
"""Maximum nesting of graphs; those of ``If`` and ``Loop`` have a few levels."""


def check_onnx(file: Path) -> onnx.ModelProto:
    """Return the graph of a file, without its external data, if the file is safe to open.

    Args:
        file: The file.

    Raises:
        RecordError: It is not ONNX, has operations that ONNX Runtime does not have, refers to data outside its folder,
            or states sizes that do not match its data.
    """
    try:
        content = file.read_bytes()
        proto = onnx.load_model_from_string(content)
    except OSError as error:
        raise RecordError(f"cannot read {file}: {error.strerror}") from error
    except (DecodeError, RecursionError, ValueError) as error:
        raise RecordError(f"{file} is not an ONNX file that ONNX Runtime can read") from error
    if not proto.graph.node or not proto.graph.input or not proto.graph.output:
        raise RecordError(f"{file} is not an ONNX model: it has no operations, no input or no output")
    own = {(function.domain, function.name) for function in proto.functions}
    for node in _nodes(file, [proto.graph.node, *(function.node for function in proto.functions)]):
        if node.domain not in DOMAINS and (node.domain, node.op_type) not in own:
            raise RecordError(
                f"{file} has the custom operation {node.domain[:60]}.{node.op_type[:60]}; only operations of ONNX and "
                "ONNX Runtime are accepted, so export the model without it"
            )
    for tensor in _tensors(file, proto):
        _check_tensor(file, tensor)
    return proto


def _check_tensor(file: Path, tensor: TensorProto) -> None:
    name = tensor.name[:60]
    if tensor.data_type not in helper.get_all_tensor_dtypes() or any(side < 0 for side in tensor.dims):
        raise RecordError(f"{file} is damaged: the tensor {name!r} has no valid type and shape")
    if tensor.data_location == TensorProto.EXTERNAL:
        _check_external(file, tensor, name)
    elif tensor.HasField("raw_data") and len(tensor.raw_data) != _num_bytes(tensor):
        raise RecordError(
            f"{file} is damaged: the tensor {name!r} has {len(tensor.raw_data)} bytes; its shape needs "
            f"{_num_bytes(tensor)}"
        )


def _check_external(file: Path, tensor: TensorProto, name: str) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location, folder = entries.get("location", ""), file.parent.resolve()
    try:
        data = (folder / location).resolve()
        start, length = int(entries.get("offset") or 0), int(entries.get("length") or _num_bytes(tensor))
    except (ValueError, TypeError, OSError) as error:  # text that is not UTF-8 is given as bytes
        raise RecordError(f"{file} is damaged: the tensor {name!r} has no valid location") from error
    if not location or not data.is_relative_to(folder) or data == folder:
        raise RecordError(
            f"{file} refers to data outside its folder, {location[:100]!r} for the tensor {name!r}; only files next to "
            "it or below it are read"
        )
    size = data.stat().st_size if data.is_file() else -1
    if size < 0:
        raise RecordError(f"{file} needs the file {location[:100]!r} next to it; copy both together")
    if start < 0 or length != _num_bytes(tensor) or start + length > size:
        raise RecordError(
            f"{file} does not match {location[:100]!r}: the tensor {name!r} should have {_num_bytes(tensor)} bytes "
            f"from {start} on, and the file has {size}; copy both again"
        )


def _num_bytes(tensor: TensorProto) -> int:
    number: int = math.prod(tensor.dims)
    name = TensorProto.DataType.Name(tensor.data_type)
    if name in _PER_BYTE:
        return -(-number // _PER_BYTE[name])
    return number * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _nodes(file: Path, lists: Iterable[Iterable[NodeProto]], depth: int = 0) -> Iterator[NodeProto]:
    """Yield all nodes, also of the graphs inside nodes."""
    if depth > MAX_DEPTH:
        raise RecordError(f"{file} has graphs nested more than {MAX_DEPTH} deep")
    for nodes in lists:
        for node in nodes:
            yield node
            yield from _nodes(file, (graph.node for graph in _graphs_in(node)), depth + 1)


def _graphs_in(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _tensors(file: Path, proto: onnx.ModelProto) -> Iterator[TensorProto]:
    """Yield all initializers and constants."""
    yield from proto.graph.initializer
    for sparse in proto.graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in _nodes(file, [proto.graph.node, *(function.node for function in proto.functions)]):
        for graph in _graphs_in(node):
            yield from graph.initializer
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
