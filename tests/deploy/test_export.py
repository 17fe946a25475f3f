"""An export computes what the model computes, or it does not exist."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from triscale.deploy import export as module
from triscale.deploy.engines import CONTRACT_KEY, Contract, OnnxModel
from triscale.deploy.export import export_onnx
from triscale.errors import ParityError, RecordError
from triscale.network.contract import Preprocessing
from triscale.nn.build import build


@pytest.fixture(scope="module")
def contract():
    return Contract(
        network="tiny",
        preprocessing=Preprocessing(resolution=16, crop=0.875, mean=(0.1, 0.2, 0.3)),
        classes=("a", "<b>", "ü"),
    )


@pytest.fixture
def model(tiny):
    torch.manual_seed(0)
    built = build(tiny)
    for name, buffer in built.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
    return built.eval()


def test_any_batch_agrees_and_the_contract_is_inside(model, contract, tmp_path):
    images = torch.randn(5, 3, 16, 16)
    made = export_onnx(model, contract, images, tmp_path / "model.onnx")
    assert made.max_error < 1e-5
    assert made.agreement == 1.0
    assert made.size_bytes == (tmp_path / "model.onnx").stat().st_size
    exported = OnnxModel(tmp_path / "model.onnx")
    assert exported.contract == contract
    for batch in (1, 2, 7):
        inputs = torch.randn(batch, 3, 16, 16)
        with torch.inference_mode():
            np.testing.assert_allclose(exported(inputs.numpy()), model(inputs).numpy(), atol=1e-5)
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"), full_check=True)


def test_a_failed_check_is_a_failed_export(model, contract, tmp_path, monkeypatch):
    class Liar(OnnxModel):
        def __call__(self, images):
            return super().__call__(images) * 1.1

    monkeypatch.setattr(module, "OnnxModel", Liar)
    with pytest.raises(ParityError, match="was not kept"):
        export_onnx(model, contract, torch.randn(4, 3, 16, 16), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_export_survives_a_failed_one(model, contract, tmp_path):
    path = tmp_path / "model.onnx"
    export_onnx(model, contract, torch.randn(4, 3, 16, 16), path)
    before = path.read_bytes()

    class Broken(nn.Module):
        def forward(self, images):
            raise RuntimeError("broken")

    with pytest.raises(Exception, match="broken"):
        export_onnx(Broken(), contract, torch.randn(4, 3, 16, 16), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_a_file_that_is_no_export_is_refused(model, contract, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(RecordError, match="not an ONNX file"):
        OnnxModel(path)
    export_onnx(model, contract, torch.randn(2, 3, 16, 16), path)
    proto = onnx.load(path)
    del proto.metadata_props[[prop.key for prop in proto.metadata_props].index(CONTRACT_KEY)]
    onnx.save(proto, path)
    with pytest.raises(RecordError, match="no preprocessing contract"):
        OnnxModel(path)
