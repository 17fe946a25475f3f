"""Models of timm and torchvision as baselines: the same as in the library, and scaled by its own arguments."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision

from triscale.errors import NetworkError
from triscale.network.custom import CustomNetwork
from triscale.nn.build import build
from triscale.nn.trace import trace_cost, trace_counts
from triscale.scaling.fit_traced import ignored_multipliers

TIMM = ("convnext_atto", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "resnet18", "seresnext26t_32x4d")


def model_of(function: str, **fields: object) -> CustomNetwork:
    return CustomNetwork(name="model", function=function, **fields)


@pytest.mark.parametrize("name", TIMM)
def test_model_of_timm_is_scaled_by_its_arguments(name):
    network = model_of(f"timm:{name}")
    with torch.device("meta"):
        params = sum(parameter.numel() for parameter in timm.create_model(name).parameters())
    own = trace_counts(network)
    assert own.params == params
    deeper, wider = (trace_counts(network.replace(**{what: 1.5})) for what in ("depth", "width"))
    assert 1.25 < deeper.macs / own.macs < 1.6
    assert 1.6 < wider.macs / own.macs < 2.4


def test_image_size_reaches_models_of_fixed_size():
    own = trace_cost(model_of("timm:vit_tiny_patch16_224", classes=10))
    larger = trace_cost(model_of("timm:vit_tiny_patch16_224", resolution=320, classes=10))
    assert larger.params - own.params == (20 * 20 - 14 * 14) * 192  # position embeddings
    assert trace_cost(model_of("torchvision:vit_b_16", resolution=64, classes=10)).macs < own.macs * 2


def test_what_a_library_cannot_scale_is_ignored():
    assert ignored_multipliers(model_of("timm:caformer_s18"), trace_counts) == ("depth", "width")
    assert ignored_multipliers(model_of("torchvision:mobilenet_v2"), trace_counts) == ("depth",)


def test_model_of_torchvision_equals_its_own():
    built = build(model_of("torchvision:resnet18", classes=10)).eval()
    reference = torchvision.models.resnet18(num_classes=10).eval()
    reference.load_state_dict(built.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(built(images), reference(images))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("timm:convnext_ato", 'timm has no model "convnext_ato"; did you mean convnext_atto'),
        ("torchvision:no_such", 'torchvision has no model "no_such"'),
    ],
)
def test_unknown_model_is_named(function, message):
    with pytest.raises(NetworkError, match=message):
        trace_cost(model_of(function))


def test_other_channels():
    assert trace_cost(model_of("timm:resnet18", in_channels=5)).params > trace_cost(model_of("timm:resnet18")).params
    with pytest.raises(NetworkError, match="takes 3 channels, not 5"):
        trace_cost(model_of("torchvision:resnet18", in_channels=5))
