"""Networks as backbones of torchvision's detectors."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN

import triscale as ts
from triscale.network.spec import Network
from triscale.nn.backbone import Backbone, backbone

PUBLISHED = {
    "efficientnet_b0": {2: 16, 4: 24, 8: 40, 16: 112, 32: 320},
    "mobilenet_v2": {2: 16, 4: 24, 8: 32, 16: 96, 32: 320},
    "resnet18": {4: 64, 8: 128, 16: 256, 32: 512},
    "resnet50": {4: 256, 8: 512, 16: 1024, 32: 2048},
    "efficientnetv2_b0": {2: 16, 4: 32, 8: 48, 16: 112, 32: 192},
    "mobilenet_v3_small": {2: 16, 4: 16, 8: 24, 16: 48, 32: 96},
    "mobilenet_v4_conv_small": {2: 32, 4: 32, 8: 64, 16: 96, 32: 128},
    "regnety_200mf": {2: 32, 4: 24, 8: 56, 16: 152, 32: 368},
    "resnetrs50": {2: 64, 4: 256, 8: 512, 16: 1024, 32: 2048},
}
"""From the tables of the papers that :mod:`triscale.families` names."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_feature_maps_have_published_channels_and_size(name: str) -> None:
    published = PUBLISHED[name]
    made = backbone(ts.get(name).replace(resolution=64), tuple(published)).eval()
    with torch.inference_mode():
        maps = made(torch.randn(1, 3, 64, 96))
    assert [tuple(value.shape) for value in maps.values()] == [
        (1, channels, 64 // reduction, 96 // reduction) for reduction, channels in published.items()
    ]
    assert made.out_channels == list(published.values())
    assert made.reductions == tuple(published)


@pytest.mark.parametrize("name", ["efficientnet_b0", "resnet18", "mnasnet_a1"])
def test_feature_maps_match_classifier_features(name: str) -> None:
    torch.manual_seed(0)
    model = ts.build(ts.get(name).replace(resolution=64)).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        features = model.forward_intermediates(images, intermediates_only=True)
        maps = list(ts.backbone(model)(images).values())
    for given, expected in zip(maps[::-1], features[::-1], strict=False):
        assert torch.equal(given, expected)
    assert len(maps) == 4


def test_later_layers_are_omitted_and_weights_are_shared() -> None:
    model = ts.build(ts.get("efficientnet_b0"))
    made = backbone(model, (16,))
    assert made.out_channels == 112
    kept = {id(parameter) for parameter in made.parameters()}
    behind = [*model.stages[5:].parameters(), *model.head.parameters()]
    assert kept == {id(parameter) for parameter in model.parameters()} - {id(parameter) for parameter in behind}


def test_missing_reduction_is_rejected(tiny: Network) -> None:
    with pytest.raises(ts.NetworkError, match=r"resnet50 has no map at reduction 2, 64: it has maps at 4, 8, 16, 32"):
        backbone(ts.get("resnet50"), (2, 4, 64))
    with pytest.raises(ts.NetworkError, match=r"tiny has no reduction given; .* maps at 2, 4"):
        backbone(tiny, ())


@pytest.fixture(scope="module")
def small() -> Network:
    """A small network with all reductions."""
    return ts.scale(ts.get("efficientnet_b0"), ts.Scale(depth=0.3, width=0.25)).replace(resolution=64, drop_path=0.0)


def with_pyramid(made: Backbone) -> BackboneWithFPN:
    names = {name: str(number) for number, name in enumerate(made)}
    return BackboneWithFPN(made, names, list(made.channels), 16)


def learns_and_predicts(detector: torch.nn.Module) -> None:
    torch.manual_seed(0)
    images = [torch.rand(3, 64, 80), torch.rand(3, 72, 64)]
    boxes = torch.tensor([[8.0, 8.0, 40.0, 48.0], [20.0, 4.0, 60.0, 30.0]])
    targets = [{"boxes": boxes, "labels": torch.tensor([1, 2])} for _ in images]
    before = {name: value.detach().clone() for name, value in detector.named_parameters()}
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.01)
    loss = sum(detector.train()(images, targets).values())
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    still = [name for name, value in detector.named_parameters() if value.grad is None]
    assert still == []
    moved = [name for name, value in detector.named_parameters() if not torch.equal(value, before[name])]
    assert any("reduction_" in name for name in moved)
    with torch.inference_mode():
        result = detector.eval()(images)
    assert [set(item) for item in result] == [{"boxes", "labels", "scores"}] * 2


SIZES = {"min_size": 64, "max_size": 96}


def test_faster_rcnn_with_torchvision_fpn_learns_and_predicts(small: Network) -> None:
    anchors = AnchorGenerator(((8,), (16,), (32,), (48,), (64,)), ((0.5, 1.0, 2.0),) * 5)
    learns_and_predicts(FasterRCNN(with_pyramid(backbone(small)), num_classes=3, rpn_anchor_generator=anchors, **SIZES))


def test_retinanet_with_torchvision_fpn_learns_and_predicts(small: Network) -> None:
    anchors = AnchorGenerator(((8,), (16,), (32,), (64,)), ((0.5, 1.0, 2.0),) * 4)
    made = with_pyramid(backbone(small, (8, 16, 32)))
    learns_and_predicts(RetinaNet(made, num_classes=3, anchor_generator=anchors, **SIZES))


def test_faster_rcnn_on_one_map_learns_and_predicts(small: Network) -> None:
    anchors = AnchorGenerator(((16, 32),), ((0.5, 1.0, 2.0),))
    learns_and_predicts(FasterRCNN(backbone(small, (16,)), num_classes=3, rpn_anchor_generator=anchors, **SIZES))
