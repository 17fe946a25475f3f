"""Models by name, with weights of other projects, other classes and other channels."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

import triscale as ts
from triscale.weights.catalog import best_for
from triscale.weights.load import import_file


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    torch.manual_seed(0)
    model = timm.create_model("mobilenetv2_100").eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model


@pytest.fixture(scope="module")
def weights(theirs, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("weights")
    save_file(theirs.state_dict(), folder / "theirs.safetensors")
    import_file(folder / "theirs.safetensors", folder / "ours.safetensors", source="timm", name="mobilenetv2_100")
    return str(folder / "ours.safetensors")


def test_pretrained_model_computes_what_the_source_computes(theirs, weights):
    images = torch.randn(2, 3, 96, 96)
    model = ts.create_model("mobilenet_v2", weights).eval()
    with torch.inference_mode():
        assert torch.allclose(model(images), theirs(images), atol=1e-4)
        mine, reference = model.forward_features(images), theirs.forward_features(images)
    assert torch.allclose(mine, reference, atol=1e-4)


def test_new_model_is_random_and_in_training_mode():
    torch.manual_seed(0)
    one = ts.create_model("resnet18", num_classes=7, drop_rate=0.3)
    torch.manual_seed(0)
    other = ts.build(ts.get("resnet18").replace(classes=7, dropout=0.3))
    assert one.training
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_other_number_of_classes_keeps_the_features(theirs, weights):
    images = torch.randn(2, 3, 64, 64)
    model = ts.create_model("mobilenet_v2", weights, num_classes=5).eval()
    with torch.inference_mode():
        assert model(images).shape == (2, 5)
        assert torch.allclose(model.forward_features(images), theirs.forward_features(images), atol=1e-4)
    headless = ts.create_model("mobilenet_v2", weights, num_classes=0).eval()
    with torch.inference_mode():
        expected = theirs.forward_head(theirs.forward_features(images), pre_logits=True)
        assert torch.allclose(headless(images), expected, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 4])
def test_channels_are_adapted(weights, channels):
    rgb = ts.create_model("mobilenet_v2", weights).eval()
    model = ts.create_model("mobilenet_v2", weights, in_channels=channels).eval()
    assert ts.cost(model.network).params == sum(parameter.numel() for parameter in model.parameters())
    gray = torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        outputs = model(gray.expand(-1, channels, -1, -1))
        assert outputs.shape == (2, 1000)
        if channels == 1:
            assert torch.allclose(outputs, rgb(gray.expand(-1, 3, -1, -1)), atol=1e-4)


def test_checkpoint_of_own_model_is_loaded(tmp_path, trained_run):
    model = ts.create_model(trained_run / "network.json", checkpoint=trained_run).eval()
    from triscale.jobs.core.run import RunFolder

    images = torch.randn(2, 3, 16, 16)
    with torch.inference_mode():
        assert torch.equal(model(images), RunFolder.open(trained_run).model()(images))
    with pytest.raises(ts.TriscaleError, match="does not hold the weights of this model"):
        ts.create_model("resnet18", checkpoint=trained_run)


def test_checkpoint_of_another_training_loop_is_loaded(tmp_path, tiny):
    model, images = ts.create_model(tiny).eval(), torch.randn(2, 3, 16, 16)
    wrapped = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "theirs.pt")
    save_file(model.state_dict(), tmp_path / "theirs.safetensors")
    for name in ("theirs.pt", "theirs.safetensors"):
        with torch.inference_mode():
            assert torch.equal(ts.create_model(tiny, checkpoint=tmp_path / name).eval()(images), model(images))
        with pytest.raises(ts.TriscaleError, match="does not hold the weights of this model"):
            ts.create_model("resnet18", checkpoint=tmp_path / name)


def test_default_weights_are_published_and_free():
    for name in ts.names():
        without = ("mobilenet_v1", "efficientnetv2_xl", "mcunet", "mobilenet_v2_035", "mobilenet_v2_030")
        if name.startswith(without):  # those of EfficientNetV2-XL squeeze their images
            with pytest.raises(ts.TriscaleError, match="no published weights"):
                best_for(name)
        else:
            assert not (best_for(name).license or "").startswith("cc-by-nc")


def test_missing_weights_say_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("TRISCALE_CACHE", str(tmp_path))
    with pytest.raises(ts.TriscaleError, match=str(tmp_path)):
        ts.create_model("efficientnet_b0", pretrained=True, offline=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("efficientnet_b9x",), "did you mean"),
        ((3,), "int is not a network"),
        (("json:loads", True), "custom model"),
        (("no/such/file.json",), "cannot read"),
    ],
)
def test_invalid_requests_are_rejected(arguments, message):
    with pytest.raises(ts.TriscaleError, match=message):
        ts.create_model(*arguments)


def test_weights_of_another_network_are_rejected(weights):
    with pytest.raises(ts.TriscaleError, match="does not fit resnet18"):
        ts.create_model("resnet18", weights)
    with pytest.raises(ts.TriscaleError, match="padding is same"):
        ts.create_model(ts.get("mobilenet_v2").replace(padding="same"), weights)


def test_paths_and_networks_are_accepted(tmp_path: Path):
    network = ts.get("resnet18").replace(classes=4)
    network.save(tmp_path / "mine.json")
    for given in (tmp_path / "mine.json", str(tmp_path / "mine.json"), network):
        assert ts.create_model(given).network == network
