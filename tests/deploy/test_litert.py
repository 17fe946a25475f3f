"""LiteRT files: integers in and out, metadata for other programs, and full-integer quantization."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from triscale.deploy.contract import Contract, read_contract
from triscale.deploy.engines import get_engine, open_file
from triscale.deploy.engines.litert import save
from triscale.deploy.engines.litert_metadata import LABELS_FILE, NAME
from triscale.network.contract import Preprocessing

flatbuffers = pytest.importorskip("flatbuffers")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

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


def metadata_in(file) -> bytes:
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(file.read_bytes(), 0))
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


@pytest.mark.skipif(not get_engine("litert").installed, reason="LiteRT's converter has its own environment")
def test_weights_are_int8_for_each_channel(tmp_path):
    from deploy.test_apps import CONTRACTS, exportable
    from triscale.deploy.quantize import get_quantizer

    subject = exportable(CONTRACTS["softmax"])
    images = np.random.default_rng(0).standard_normal((32, *subject.input_shape), dtype=np.float32)
    file = tmp_path / "model.int8.tflite"
    get_quantizer(get_engine("litert"))(subject, images).write((), file)
    graph = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(file.read_bytes(), 0)).subgraphs[0]
    kinds = {tensor.type for tensor in graph.tensors}
    assert kinds <= {schema.TensorType.INT8, schema.TensorType.INT32}
    weights = [
        one for one in graph.tensors if one.type == schema.TensorType.INT8 and len(one.shape) == 4 and one.buffer > 1
    ]
    scales = [len(one.quantization.scale) for one in weights if one.quantization and len(one.quantization.scale) > 1]
    assert len(scales) > 5
    assert all(not np.any(one.quantization.zeroPoint) for one in weights if len(one.quantization.scale) > 1)
