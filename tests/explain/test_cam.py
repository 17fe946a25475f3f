"""Class activation maps against their closed form."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sizes import stressed
from triscale.errors import JobError
from triscale.explain.cam import class_activation_maps, gradient_maps, overlay, to_png
from triscale.families import get
from triscale.nn.build import build


@pytest.mark.parametrize(
    "name",
    [
        "efficientnet_b0",
        "mobilenet_v1",
        "resnet18",
        "efficientnetv2_b0",
        "regnety_200mf",
        *stressed("resnetrs50"),
    ],
)
def test_mean_of_map_is_logit_without_bias(name):
    torch.manual_seed(0)
    model = build(get(name).replace(classes=5, resolution=96)).eval()
    images, classes = torch.randn(5, 3, 96, 96), torch.arange(5)
    maps, logits = class_activation_maps(model, images, classes)
    assert maps.shape == (5, 3, 3)
    bias = model.head.get_submodule("classifier").bias
    expected = logits[classes, classes] - bias[classes]
    np.testing.assert_allclose(maps.mean((1, 2)).numpy(), expected.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(logits.numpy(), model(images).detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mobilenet_v4_conv_small"])
def test_map_before_a_wide_layer_is_grad_cam_of_the_last_feature_map(name):
    torch.manual_seed(0)
    model = build(get(name).replace(classes=5, resolution=96)).eval()
    images, classes = torch.randn(5, 3, 96, 96), torch.arange(5)
    maps, logits = class_activation_maps(model, images, classes)
    np.testing.assert_allclose(logits.numpy(), model(images).detach().numpy(), atol=1e-5)
    expected = gradient_maps(model, images, classes)
    np.testing.assert_allclose(maps.numpy() / 9, expected.numpy(), atol=1e-5)


def test_grad_cam_of_linear_head_is_proportional_to_exact_map():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    ).eval()
    images, classes = torch.randn(4, 3, 10, 10), torch.arange(4)
    features = model[1](model[0](images))
    exact = torch.einsum("nc,nchw->nhw", model[4].weight[classes], features).detach()
    result = gradient_maps(model, images, classes)
    np.testing.assert_allclose(result.numpy() * 25, exact.numpy(), atol=1e-5)


def test_network_without_feature_maps_is_rejected():
    model = nn.Sequential(nn.Flatten(), nn.Linear(27, 2))
    with pytest.raises(JobError, match="no feature map"):
        gradient_maps(model, torch.randn(1, 3, 3, 3), torch.tensor([0]))


def test_overlay_is_brightest_where_the_map_is_largest():
    heat = np.zeros((4, 4), dtype=np.float32)
    heat[3, 3] = 5.0
    heat[0, 0] = -5.0
    picture = np.asarray(overlay(Image.new("RGB", (64, 64), (128, 128, 128)), heat)).sum(2)
    assert picture[60, 60] > picture[32, 32] >= picture[4, 4] - 40
    assert picture.shape == (64, 64)


def test_map_without_evidence_is_dark():
    picture = overlay(Image.new("RGB", (16, 16), (200, 100, 0)), np.full((2, 2), -1.0, dtype=np.float32))
    assert to_png(picture).startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenet_v2", "mnasnet_a1", "mobilenet_v1", "resnet18"])
def test_maps_match_grad_cam_package(name):
    grad_cam = pytest.importorskip("pytorch_grad_cam")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    torch.manual_seed(0)
    model = build(get(name).replace(classes=5, resolution=96)).eval()
    images = torch.randn(2, 3, 96, 96)
    classes = torch.tensor([1, 4])
    last = model.head.activation if hasattr(model.head, "activation") else model.stages[-1]
    with grad_cam.GradCAM(model=model, target_layers=[last]) as theirs:
        expected = theirs(input_tensor=images, targets=[targets.ClassifierOutputTarget(int(at)) for at in classes])
    exact, _ = class_activation_maps(model, images, classes)
    area = exact.shape[-1] * exact.shape[-2]  # the gradient of a mean
    for maps in (exact / area, gradient_maps(model, images, classes)):
        scaled = to_unit(maps.clamp(min=0))
        # The package stretches its maps to the image by bilinear interpolation, and scales them again.
        cells = torch.nn.functional.interpolate(scaled[:, None], (96, 96), mode="bilinear", align_corners=False)[:, 0]
        np.testing.assert_allclose(to_unit(cells).numpy(), expected, atol=1e-4)


def to_unit(maps: torch.Tensor) -> torch.Tensor:
    """Scale each map to 0..1, as the package does."""
    maps = maps - maps.amin((1, 2), keepdim=True)
    return maps / (1e-7 + maps.amax((1, 2), keepdim=True))
