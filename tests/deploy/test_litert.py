"""LiteRT files: integers in and out, metadata for other programs, and full-integer quantization."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from triscale.deploy.contract import Contract, read_contract
from triscale.deploy.engines import get_engine, litert, open_file
from triscale.deploy.engines.litert import save
from triscale.deploy.engines.litert_metadata import LABELS_FILE, NAME
from triscale.deploy.exportable import Exportable
from triscale.network.contract import Preprocessing

flatbuffers = pytest.importorskip("flatbuffers")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

converts = pytest.mark.skipif(not get_engine("litert").installed, reason="LiteRT's converter has its own environment")

CONTRACT = Contract(
    network="tiny",
    preprocessing=Preprocessing(resolution=2, mean=(0.5, 0.25, 0.125), std=(0.5, 0.25, 0.2)),
    classes=(*(f"class {number}" for number in range(11)), "ü"),
)


def reshaping(kind: int, scale: float | None = None, zero: int = 0) -> bytes:
    """A file that gives its input ``[1, 3, 2, 2]`` as its output ``[1, 12]``."""
    model = schema.ModelT()
    model.version, model.buffers = 3, [schema.BufferT(), schema.BufferT()]
    model.buffers[1].data = np.frombuffer(np.array([1, 12], np.int32).tobytes(), np.uint8)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RESHAPE
    model.operatorCodes = [code]
    graph = schema.SubGraphT()
    graph.tensors = []
    for name, shape, number, buffer in (
        ("images", [1, 3, 2, 2], kind, 0), ("shape", [2], schema.TensorType.INT32, 1), ("logits", [1, 12], kind, 0),
    ):  # fmt: skip
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, number, buffer
        if scale is not None and name != "shape":
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero]
        graph.tensors.append(tensor)
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [0, 1], [2]
    graph.operators, graph.inputs, graph.outputs = [operator], [0], [2]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_file_keeps_its_contract_and_computes_as_before(tmp_path):
    file = tmp_path / "model.tflite"
    save(reshaping(schema.TensorType.FLOAT32), CONTRACT, file)
    session = open_file(file, 1)
    assert read_contract(session.contract_text, file) == CONTRACT
    images = np.random.default_rng(0).standard_normal((3, 3, 2, 2), dtype=np.float32)
    np.testing.assert_array_equal(session(images), images.reshape(3, 12))
    assert session.input_shape == (3, 2, 2)


def test_integers_are_converted_by_scale_and_zero_point(tmp_path):
    file, scale, zero = tmp_path / "model.int8.tflite", 0.1, 3
    save(reshaping(schema.TensorType.INT8, scale, zero), CONTRACT, file)
    images = np.random.default_rng(0).uniform(-20, 20, (2, 3, 2, 2)).astype(np.float32)
    found = open_file(file, 1)(images)
    assert found.dtype == np.float32
    low, high = scale * (-128 - zero), scale * (127 - zero)
    np.testing.assert_allclose(found, images.clip(low, high).reshape(2, 12), atol=scale / 2 + 1e-5)


def model_in(file):
    return schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(file.read_bytes(), 0))


def metadata_in(file) -> bytes:
    model = model_in(file)
    (entry,) = (one for one in model.metadata if one.name.decode() == NAME)
    return bytes(model.buffers[entry.buffer].data)


def test_labels_are_in_the_archive_and_metadata_name_them(tmp_path):
    file = tmp_path / "model.tflite"
    save(reshaping(schema.TensorType.FLOAT32), CONTRACT, file)
    with zipfile.ZipFile(file) as archive:
        assert archive.read(LABELS_FILE).decode().splitlines() == list(CONTRACT.classes)
        assert all(one.compress_type == zipfile.ZIP_STORED for one in archive.infolist())
    content = metadata_in(file)
    assert content[4:8] == b"M001"
    assert LABELS_FILE.encode() in content


def test_metadata_are_read_by_mediapipe(tmp_path):
    """Its generated code reads what ours wrote."""
    reader = pytest.importorskip("mediapipe.tasks.metadata.metadata_schema_py_generated")
    file = tmp_path / "model.tflite"
    save(reshaping(schema.TensorType.FLOAT32), CONTRACT, file)
    metadata = reader.ModelMetadataT.InitFromObj(reader.ModelMetadata.GetRootAs(metadata_in(file), 0))
    assert metadata.name.decode() == "tiny"
    assert "12 classes" in metadata.description.decode()
    (graph,) = metadata.subgraphMetadata
    (image,), (logits,) = graph.inputTensorMetadata, graph.outputTensorMetadata
    properties = image.content.contentProperties
    assert isinstance(properties, reader.ImagePropertiesT)
    assert properties.colorSpace == reader.ColorSpaceType.RGB
    assert (properties.defaultSize.width, properties.defaultSize.height) == (2, 2)
    (unit,) = image.processUnits
    assert isinstance(unit.options, reader.NormalizationOptionsT)
    assert list(unit.options.mean) == pytest.approx([127.5, 63.75, 31.875])
    assert list(unit.options.std) == pytest.approx([127.5, 63.75, 51])
    assert list(image.stats.min) == pytest.approx([-1, -1, -0.625])
    assert list(image.stats.max) == pytest.approx([1, 3, 4.375])
    (labels,) = logits.associatedFiles
    assert labels.name.decode() == LABELS_FILE
    assert labels.type == reader.AssociatedFileType.TENSOR_AXIS_LABELS


def test_exported_buffers_are_aligned(tmp_path):
    """LiteRT maps weights from the file, and its schema demands 16 bytes."""
    file = tmp_path / "model.tflite"
    save(reshaping(schema.TensorType.FLOAT32), CONTRACT, file)
    content = file.read_bytes()
    model = schema.Model.GetRootAsModel(content, 0)
    for number in range(model.BuffersLength()):
        if (length := model.Buffers(number).DataLength()) > 0:
            vector = model.Buffers(number).DataAsNumpy()
            start = (
                vector.__array_interface__["data"][0] - np.frombuffer(content, np.uint8).__array_interface__["data"][0]
            )
            assert start % 16 == 0, (number, length)


@converts
def test_weights_are_int8_for_each_channel(tmp_path):
    from deploy.test_apps import CONTRACTS, exportable
    from triscale.deploy.quantize import get_quantizer

    subject = exportable(CONTRACTS["softmax"])
    images = np.random.default_rng(0).standard_normal((32, *subject.input_shape), dtype=np.float32)
    file = tmp_path / "model.int8.tflite"
    get_quantizer(get_engine("litert"))(subject, images).write((), file)
    graph = model_in(file).subgraphs[0]
    kinds = {tensor.type for tensor in graph.tensors}
    assert kinds <= {schema.TensorType.INT8, schema.TensorType.INT32}
    weights = [
        one for one in graph.tensors if one.type == schema.TensorType.INT8 and len(one.shape) == 4 and one.buffer > 1
    ]
    scales = [len(one.quantization.scale) for one in weights if one.quantization and len(one.quantization.scale) > 1]
    assert len(scales) > 5
    assert all(not np.any(one.quantization.zeroPoint) for one in weights if len(one.quantization.scale) > 1)


def with_weights_rounded_by_numpy(file, target) -> None:
    """Write a float32 file again, with its matrices rounded to float16."""
    model = model_in(file)
    for tensor in model.subgraphs[0].tensors:
        buffer = model.buffers[tensor.buffer]
        if tensor.type == schema.TensorType.FLOAT32 and len(tensor.shape) > 1 and buffer.data is not None:
            values = np.asarray(buffer.data, np.uint8).view(np.float32)
            buffer.data = values.astype(np.float16).astype(np.float32).view(np.uint8)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    target.write_bytes(bytes(builder.Output()))


@converts
def test_float16_files_compute_with_the_weights_that_numpy_rounds(tmp_path):
    """The same outputs, bit by bit, as a file whose matrices were rounded by numpy; two bytes less for each weight."""
    from deploy.test_apps import CONTRACTS, exportable

    subject = exportable(CONTRACTS["softmax"])
    exact, half, rounded = (tmp_path / f"{name}.tflite" for name in ("exact", "half", "rounded"))
    get_engine("litert").write(subject, exact)
    get_engine("litert").roundings["float16"].write(subject, half)
    with_weights_rounded_by_numpy(exact, rounded)
    images = np.random.default_rng(0).standard_normal((8, *subject.input_shape), dtype=np.float32)
    opened = open_file(half, 1)
    found, expected, logits = opened(images), open_file(rounded, 1)(images), open_file(exact, 1)(images)
    np.testing.assert_array_equal(found, expected)
    assert 0 < np.abs(found - logits).max() < 1e-2 * np.abs(logits).max()
    assert read_contract(opened.contract_text, half) == subject.contract
    assert metadata_in(half) == metadata_in(exact)
    with zipfile.ZipFile(half) as archive:
        assert archive.read(LABELS_FILE).decode().splitlines() == list(subject.contract.classes)
    weights = sum(value.numel() for value in subject.model.parameters() if value.ndim > 1)
    assert exact.stat().st_size - half.stat().st_size == pytest.approx(2 * weights, rel=0.1)
    assert half.stat().st_size < 0.6 * exact.stat().st_size


class Large(nn.Module):
    """Two convolutions and a linear layer; the second convolution has a weight of any size."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 12)
        with torch.no_grad():
            self.second.weight[0, 0, 0, 0] = weight

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(images).relu()).mean((2, 3)))


@converts
@pytest.mark.parametrize(("weight", "kept"), [(65504.0, 0), (-65504.0, 0), (65505.0, 1), (-1e5, 1)])
def test_weights_beyond_half_precision_stay_in_float32(tmp_path, weight, kept):
    """65504 is the largest number of float16."""
    file = tmp_path / "model.float16.tflite"
    contract = CONTRACT.replace(preprocessing=Preprocessing(resolution=8))
    subject = Exportable(Large(weight).eval(), contract)
    litert.write(subject, file, half=True)
    model = model_in(file)
    stored = [
        tensor.type
        for tensor in model.subgraphs[0].tensors
        if len(tensor.shape) > 1 and model.buffers[tensor.buffer].data is not None
    ]
    assert stored.count(schema.TensorType.FLOAT16) == 3 - kept
    assert stored.count(schema.TensorType.FLOAT32) == kept
    images = np.random.default_rng(0).standard_normal((4, 3, 8, 8), dtype=np.float32)
    with torch.no_grad():
        expected = subject.model(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(open_file(file, 1)(images), expected, rtol=0.01, atol=2e-3 * np.abs(expected).max())
