"""An exported file computes the same as the model, or is not written."""

import json
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from sizes import NEWER_FAMILIES, stressed
from triscale.deploy.contract import CONTRACT_KEY, Contract, read_contract
from triscale.deploy.engines import ENGINES, coreml, engine_of, get_engine, litert, open_file
from triscale.deploy.engines.onnx_runtime import OnnxSession, traced
from triscale.deploy.export import export
from triscale.deploy.exportable import Exportable
from triscale.deploy.parity import parity_inputs
from triscale.errors import ExportError, ParityError, RecordError, UserError
from triscale.families import get
from triscale.network.contract import Confidence, Decision, Preprocessing
from triscale.nn.build import build
from triscale.version import __version__


@pytest.fixture(scope="module")
def contract():
    return Contract(
        network="tiny",
        preprocessing=Preprocessing(resolution=16, crop=0.875, mean=(0.1, 0.2, 0.3)),
        classes=("a", "<b>", "ü"),
    )


def alive(network):
    """A module whose batch norm statistics and weights matter."""
    torch.manual_seed(0)
    model = build(network)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        if name.endswith("running_var"):
            buffer.uniform_(0.8, 1.2)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.add_(torch.randn_like(parameter) / 10)
    return model.eval()


@pytest.fixture(scope="module")
def subject(tiny, contract):
    return Exportable(alive(tiny), contract, tiny)


@pytest.fixture(scope="module")
def real():
    return np.random.default_rng(0).standard_normal((20, 3, 16, 16), dtype=np.float32)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", *stressed("executorch")])
def test_export_agrees_at_any_batch_size_and_stores_contract(subject, real, tmp_path, name):
    pytest.importorskip(ENGINES[name].converter)
    file = tmp_path / f"model{ENGINES[name].suffix}"
    made = export(subject, ENGINES[name], real, file)
    assert (made.images, made.batches, made.agreement) == (64, (1, 3, 8), 1.0)
    assert made.max_error < 1e-5
    assert made.size_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    opened = open_file(file, 1)
    assert read_contract(opened.contract_text, file) == subject.contract
    assert opened.input_shape == (3, 16, 16)
    for batch in (1, 2, 11):
        inputs = torch.randn(batch, 3, 16, 16)
        with torch.inference_mode():
            np.testing.assert_allclose(opened(inputs.numpy()), subject.model(inputs).numpy(), atol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "efficientnet_b0@32",
        "efficientnet_lite0",
        "mobilenet_v1",
        "mobilenet_v2@32",
        "mnasnet_a1",
        "resnet18",
        "resnet50",
        "tinynet_e",
        "mobilenet_v3_small",
        "mobilenet_v4_conv_small",
        "regnety_200mf",
        *stressed(
            "efficientnetv2_b0", "efficientnet_edgetpu_s", "resnext50_32x4d", "resnetrs50", "mobilenet_v4_conv_medium"
        ),
    ],
)
def test_graph_of_every_family_matches_module(tmp_path, name):
    network = get(name).replace(classes=5, resolution=32)
    model = alive(network)
    contract = Contract(network=name, preprocessing=Preprocessing(resolution=32), classes=tuple("abcde"))
    real = np.random.default_rng(1).standard_normal((3, 3, 32, 32), dtype=np.float32)
    file = tmp_path / "model.onnx"
    made = export(Exportable(model, contract, network), get_engine("onnxruntime"), real, file)
    assert made.max_error < 1e-5
    onnx.checker.check_model(onnx.load(file), full_check=True)
    kinds = {node.op_type for node in onnx.load(file).graph.node}
    assert not kinds & {"BatchNormalization", "Pad", "Shape", "Reshape", "Concat"}


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", *stressed("executorch")])
@pytest.mark.parametrize("source", ["tiny", *stressed("efficientnet_b0")])
def test_rectangular_images_of_several_channels_are_exported(tmp_path, tiny, name, source):
    pytest.importorskip(ENGINES[name].converter)
    known = tiny if source == "tiny" else get(source)
    network = known.replace(resolution=33, aspect_ratio=(2, 1), classes=3, in_channels=5)
    preprocessing = Preprocessing.usual(network.input_shape)
    subject = Exportable(alive(network), Contract(network="wide", preprocessing=preprocessing, classes=("a", "b", "c")))
    real = np.random.default_rng(1).standard_normal((3, 5, 33, 66), dtype=np.float32)
    for given in (network, None):  # written from the tree, and traced
        file = tmp_path / f"{given is None}{ENGINES[name].suffix}"
        made = export(replace(subject, network=given), ENGINES[name], real, file)
        assert (made.agreement, made.images) == (1.0, 64)
        opened = open_file(file, 1)
        assert opened.input_shape == (5, 33, 66)
        assert read_contract(opened.contract_text, file).preprocessing == preprocessing


@pytest.mark.parametrize("name", stressed(*NEWER_FAMILIES))
def test_newer_families_are_exported_to_openvino(tmp_path, name):
    pytest.importorskip(ENGINES["openvino"].converter)
    network = get(name).replace(classes=5, resolution=32)
    contract = Contract(network=name, preprocessing=Preprocessing(resolution=32), classes=tuple("abcde"))
    real = np.random.default_rng(1).standard_normal((3, 3, 32, 32), dtype=np.float32)
    made = export(Exportable(alive(network), contract, network), get_engine("openvino"), real, tmp_path / "model.xml")
    assert made.max_error < 1e-4


def test_custom_model_is_traced(contract, real, tmp_path):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )
    made = export(Exportable(model.eval(), contract), get_engine("onnxruntime"), real, tmp_path / "model.onnx")
    assert made.agreement == 1.0


class Counting(nn.Module):
    """Turns the batch size into a Python number."""

    def __init__(self, how):
        super().__init__()
        self.how, self.linear = how, nn.Linear(3, 3)
        self.token = nn.Parameter(torch.randn(1, 3))

    def forward(self, images):
        number, *_ = {"len": lambda: [len(images)], "int": lambda: map(int, images.shape)}[self.how]()
        return self.linear(images.reshape(number, 3, -1).mean(2) + self.token.expand(number, -1))


@pytest.mark.parametrize("engine", ["onnxruntime", *stressed("executorch")])
@pytest.mark.parametrize("how", ["len", "int"])
def test_batch_size_as_a_number_is_exported_for_any_batch(contract, real, tmp_path, how, engine):
    chosen = get_engine(engine)
    if not chosen.installed:
        pytest.skip(f"{chosen.title} is not installed")
    made = export(Exportable(Counting(how).eval(), contract), chosen, real, tmp_path / f"model{chosen.suffix}")
    assert (made.agreement, len(made.batches) > 1) == (1.0, True)


@pytest.mark.parametrize("engine", ["onnxruntime", "executorch"])
def test_fixed_batch_size_is_refused_with_advice(contract, real, tmp_path, engine):
    class Fixed(nn.Module):
        def forward(self, images):
            return images.reshape(2, -1)[:, :3]

    chosen = get_engine(engine)
    if not chosen.installed:
        pytest.skip(f"{chosen.title} is not installed")
    with pytest.raises(ExportError, match=r"for any batch size: .*must keep images.shape\[0\]"):
        export(Exportable(Fixed(), contract), chosen, real, tmp_path / f"model{chosen.suffix}")
    assert list(tmp_path.iterdir()) == []


def test_unsupported_operation_gives_one_line_error(contract, real, tmp_path):
    class Odd(nn.Module):
        def forward(self, images):
            return torch.linalg.svdvals(images.mean(1))[:, :3]

    with pytest.raises(ExportError, match="cannot be converted to ONNX"):
        export(Exportable(Odd(), contract), get_engine("onnxruntime"), real, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_failed_parity_check_fails_export(subject, real, tmp_path, monkeypatch):
    answer = OnnxSession.__call__
    monkeypatch.setattr(OnnxSession, "__call__", lambda session, images: answer(session, images) * 1.1)
    with pytest.raises(ParityError, match="was deleted"):
        export(subject, get_engine("onnxruntime"), real, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_failed_export_keeps_previous_file(subject, contract, real, tmp_path):
    path = tmp_path / "model.onnx"
    export(subject, get_engine("onnxruntime"), real, path)
    before = path.read_bytes()

    class Broken(nn.Module):
        def forward(self, images):
            raise RuntimeError("broken")

    with pytest.raises(ExportError):
        export(Exportable(Broken(), contract), get_engine("onnxruntime"), real, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_file_that_is_not_an_export_is_rejected(subject, real, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(RecordError, match="not an ONNX file"):
        open_file(path)
    export(subject, get_engine("onnxruntime"), real, path)
    proto = onnx.load(path)
    del proto.metadata_props[[prop.key for prop in proto.metadata_props].index(CONTRACT_KEY)]
    onnx.save(proto, path)
    with pytest.raises(RecordError, match="no preprocessing contract"):
        read_contract(open_file(path).contract_text, path)
    with pytest.raises(UserError, match=r"a suffix of no engine.* \.pte \(ExecuTorch\)"):
        engine_of(tmp_path / "model.bin")


@pytest.mark.parametrize("suffix", [".xml", ".pte", ".tflite", ".mlpackage"])
def test_damaged_files_of_every_engine_are_rejected(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(UserError):
        open_file(path)


def test_mismatched_external_weights_are_rejected(subject, real, tmp_path):
    pytest.importorskip("openvino")
    path = tmp_path / "model.xml"
    export(subject, get_engine("openvino"), real, path)
    weights = bytearray(path.with_suffix(".bin").read_bytes())
    weights[100] ^= 1
    path.with_suffix(".bin").write_bytes(weights)
    with pytest.raises(RecordError, match="does not hold the weights"):
        open_file(path)


def test_missing_engine_says_what_to_install(subject, real, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "executorch.backends.xnnpack.partition.xnnpack_partitioner", None)
    with pytest.raises(UserError, match=r"pip install 'triscale\[executorch\]'"):
        export(subject, get_engine("executorch"), real, tmp_path / "model.pte")
    if not get_engine("litert").installed:
        with pytest.raises(ExportError, match=r"examples/litert\.sh"):
            export(subject, get_engine("litert"), real, tmp_path / "model.tflite")
    with pytest.raises(UserError, match="did you mean openvino"):
        get_engine("openvno")


def test_core_ml_export_is_marked_unverified(subject, real, tmp_path):
    tools = pytest.importorskip("coremltools")
    path = tmp_path / "model.mlpackage"
    made = export(subject, get_engine("coreml"), real, path)
    assert (made.verified, made.max_error) == (False, None)
    package = tools.models.MLModel(str(path), skip_model_load=True)
    assert Contract.from_json(package.user_defined_metadata[CONTRACT_KEY]) == subject.contract
    again = export(subject, get_engine("coreml"), real, path)
    assert again.size_bytes == pytest.approx(made.size_bytes, rel=0.01)
    assert [file.name for file in tmp_path.iterdir()] == ["model.mlpackage"]


def described(subject, folder):
    """Export for Core ML, and return the description in the package."""
    tools = pytest.importorskip("coremltools")
    get_engine("coreml").write(subject, folder / "model.mlpackage")
    return tools.models.MLModel(str(folder / "model.mlpackage"), skip_model_load=True).get_spec().description


def test_core_ml_package_is_a_classifier_of_images(subject, tmp_path):
    description = described(subject, tmp_path)
    (image,) = description.input
    assert (image.name, image.type.WhichOneof("Type")) == ("image", "imageType")
    assert (image.type.imageType.width, image.type.imageType.height) == (16, 16)
    assert image.type.imageType.ColorSpace.Name(image.type.imageType.colorSpace) == "RGB"
    assert {one.name: one.type.WhichOneof("Type") for one in description.output} == {
        "classLabel": "stringType",
        "classLabel_probs": "dictionaryType",
    }
    assert description.predictedFeatureName == "classLabel"
    assert description.predictedProbabilitiesName == "classLabel_probs"
    assert (description.metadata.author, description.metadata.versionString) == ("triscale", __version__)
    assert "3 classes" in description.metadata.shortDescription
    assert json.loads(description.metadata.userDefined["names"]) == ["a", "<b>", "ü"]
    assert "both sides multiplied by 0.875" in image.shortDescription


def test_core_ml_package_for_labels_or_gray_images(tiny, tmp_path):
    gray = tiny.replace(in_channels=1)
    contract = Contract(
        network="tiny",
        preprocessing=Preprocessing(resolution=16, mean=(0.4,), std=(0.2,)),
        classes=tuple("abc"),
        decision=Decision(link="sigmoid", thresholds=(0.3, 0.5, 0.5)),
    )
    description = described(Exportable(alive(gray), contract, gray), tmp_path)
    image = description.input[0].type.imageType
    assert image.ColorSpace.Name(image.colorSpace) == "GRAYSCALE"
    (output,) = description.output
    assert (output.name, output.type.WhichOneof("Type")) == ("probabilities", "multiArrayType")
    assert json.loads(description.metadata.userDefined["thresholds"]) == [0.3, 0.5, 0.5]


def test_core_ml_package_of_other_channels_takes_an_array(tiny, tmp_path):
    four = tiny.replace(in_channels=4)
    contract = Contract(network="tiny", preprocessing=Preprocessing.usual((4, 16, 16)), classes=tuple("abc"))
    description = described(Exportable(alive(four), contract, four), tmp_path)
    assert [list(one.type.multiArrayType.shape) for one in description.input] == [[1, 4, 16, 16]]
    assert [one.name for one in description.output] == ["logits"]


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_network_inside_a_core_ml_package_gives_the_probabilities_of_the_model(subject, contract, link, temperature):
    """After a calibration they are divided by the temperature, and the session multiplies by it again."""
    confidence = Confidence(temperature=temperature, coverage=0.9, kept=0.95, unknown_threshold=3.0)
    contract = contract.replace(decision=Decision(link=link).calibrated(confidence))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    mean, std = np.array(contract.preprocessing.mean), np.array(contract.preprocessing.std)
    normalized = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    with torch.inference_mode():
        found = coreml.ClassifierOfImages(subject.model, contract)(torch.from_numpy(pixels).permute(0, 3, 1, 2).float())
        logits = subject.model(torch.from_numpy(normalized))
    expected = (logits / temperature).softmax(1) if link == "softmax" else (logits / temperature).sigmoid()
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5)
    # What a session on macOS does before and after: the picture has the pixels, and the outputs give the logits.
    picture = coreml.picture_of(normalized[0], contract.preprocessing)
    np.testing.assert_array_equal(np.asarray(picture), pixels[0])
    np.testing.assert_allclose(coreml.in_eight_bits(normalized, contract), normalized, atol=1e-5)
    outputs = {
        coreml.LABEL_PROBABILITIES: dict(zip(contract.classes, found[0].tolist(), strict=True)),
        coreml.PROBABILITIES: found[:1].numpy(),
    }
    again = coreml.logits_of_outputs(outputs, contract)
    np.testing.assert_allclose(again, coreml.comparable(logits.numpy(), contract)[0], atol=1e-4)
    scaled = torch.from_numpy(again) / temperature
    answer = scaled.softmax(0) if link == "softmax" else scaled.sigmoid()
    np.testing.assert_allclose(answer.numpy(), expected[0].numpy(), atol=1e-5)
    # The energy of one class cannot be computed from probabilities, so that such a package calls no image unknown.
    kept = coreml.packaged(contract).decision.confidence.unknown_threshold
    assert kept == (None if link == "softmax" else 3.0)


@pytest.mark.skipif(not get_engine("litert").installed, reason="LiteRT's converter has its own environment")
def test_litert_agrees(subject, real, tmp_path):
    made = export(subject, get_engine("litert"), real, tmp_path / "model.tflite")
    assert made.agreement == 1.0
    assert litert.LiteRtSession(tmp_path / "model.tflite").input_shape == (3, 16, 16)


def test_parity_inputs_include_extreme_values(contract):
    real = np.full((100, 3, 16, 16), 7.0, dtype=np.float32)
    inputs = parity_inputs(real, contract.preprocessing)
    assert inputs.shape == (64, 3, 16, 16)
    assert np.all(inputs[0] == 0)
    assert np.all(inputs[1] == 1)
    np.testing.assert_allclose(inputs[2][0], (0 - 0.1) / 0.229, rtol=1e-6)
    np.testing.assert_allclose(inputs[3][2], (1 - 0.3) / 0.225, rtol=1e-6)
    assert np.all(inputs[5:] == 7)
    few = parity_inputs(real[:2], contract.preprocessing)
    assert few.shape == (64, 3, 16, 16)
    assert few[7:].std() == pytest.approx(1, rel=0.05)


def test_traced_graph_has_dynamic_batch():
    graph = traced(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), (3, 2, 2)).graph
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param
