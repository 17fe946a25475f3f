"""Built modules against the exact cost: torch's own flop counter, parameters, buffers, activations; and torchvision's.

Everything runs on the meta device, where tensors have shapes and no values.
"""

from __future__ import annotations

import random

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sizes import first_of_each_family, stressed
from triscale.errors import BudgetError
from triscale.families import get, names
from triscale.network.cost import cost
from triscale.network.input_size import parse_size
from triscale.network.spec import (
    Basic,
    Bottleneck,
    Conv,
    FusedMBConv,
    Head,
    MBConv,
    Network,
    Separable,
    SqueezeRule,
    Stage,
    Stem,
    UniversalBottleneck,
)
from triscale.nn.build import build
from triscale.scaling.budget import Budget
from triscale.scaling.fit import fit_budget
from triscale.scaling.law import EFFICIENTNET

LARGE = [
    *(f"efficientnet_{member}" for member in ("b5", "b6", "b7", "b8", "l2")),
    *(f"efficientnetv2_{member}" for member in ("m", "l", "xl")),
    *(f"resnetrs{layers}" for layers in (152, 200, 270, 350, 420)),
]
COUNTED = (nn.Conv2d, nn.Linear)


def on_meta(network: Network) -> nn.Module:
    with torch.device("meta"):
        return build(network).eval()


def macs_by_torch(model: nn.Module, shape: tuple[int, int, int]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.empty(1, *shape, device="meta"))
    return counter.get_total_flops() // 2


def stored(model: nn.Module) -> tuple[int, int]:
    """Count trained values, and values of running statistics."""
    buffers = (buffer for name, buffer in model.named_buffers() if not name.endswith("num_batches_tracked"))
    return sum(p.numel() for p in model.parameters()), sum(b.numel() for b in buffers)


def check(network: Network) -> None:
    counted, model = cost(network), on_meta(network)
    outputs = {"activations": 0, "biased": 0, "normalized": 0}

    def note(module: nn.Module, inputs: object, output: Tensor) -> None:
        outputs["normalized" if isinstance(module, nn.BatchNorm2d) else "activations"] += output.numel()
        if getattr(module, "bias", None) is not None and not isinstance(module, nn.BatchNorm2d):
            outputs["biased"] += output.numel()

    for module in model.modules():
        if isinstance(module, (*COUNTED, nn.BatchNorm2d)):
            module.register_forward_hook(note)
    assert macs_by_torch(model, network.input_shape) == counted.macs
    assert stored(model) == (counted.params, counted.buffers)
    assert outputs["activations"] == counted.activations
    assert outputs["biased"] == counted.macs_with_bias - counted.macs
    assert outputs["normalized"] == counted.macs_with_norm - counted.macs_with_bias


@pytest.mark.parametrize("name", first_of_each_family([name for name in names() if name not in LARGE]))
def test_cost_of_published_networks_matches_torch(name):
    check(get(name))


@pytest.mark.parametrize("resolution", [97, 291])
@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenet_v1", "mobilenet_v2", "resnet18", "resnet50"])
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_cost_matches_torch_at_indivisible_resolutions(name, padding, resolution):
    check(get(name).replace(resolution=resolution, padding=padding))


@pytest.mark.parametrize("size", ["720x184", "97x224", "33x300"])
@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenet_v2", "resnet18"])
def test_cost_of_rectangular_input_matches_torch(name, size):
    height, ratio = parse_size(size)
    for channels in (1, 5):
        check(get(name).replace(resolution=height, aspect_ratio=ratio, in_channels=channels))


HARD = SqueezeRule(of="map", multiple=8, activation="relu", gate="hard_sigmoid")
BLOCKS = [
    MBConv(kernel=7, se_ratio=0.1),
    MBConv(expansion=2.3, se_ratio=0.25, se_rule=HARD, activation="hard_swish"),
    FusedMBConv(se_ratio=0.25),
    FusedMBConv(expansion=1, kernel=5),
    FusedMBConv(expansion=2.5, activation="relu"),
    UniversalBottleneck(start=3, kernel=5),
    UniversalBottleneck(start=5, kernel=None),
    UniversalBottleneck(expansion=2),
    Separable(),
    Bottleneck(),
    Bottleneck(reduction=2, groups=4),
    Bottleneck(reduction=1, group_width=8, se_ratio=0.25),
    Bottleneck(se_ratio=0.25, se_rule=SqueezeRule(of="map"), se_at="end", shortcut="pooled"),
    Basic(kernel=5),
    Conv(),
]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("padding", ["same", "symmetric"])
def test_cost_of_every_block_matches_torch(block, padding):
    stages = (Stage(block=block, width=20, repeats=2), Stage(block=block, width=20, repeats=2, stride=3))
    stem = Stem(width=20, kernel=5, stride=2, max_pool=True)
    check(Network(name="odd", stem=stem, stages=stages, resolution=45, classes=7, padding=padding))
    check(Network(name="odd", stem=stem, stages=stages, head=Head(width=11), resolution=45, dropout=0.1))
    for wide in (Head(width=11, wide=13), Head(wide=13, wide_norm=True)):
        check(Network(name="odd", stem=stem, stages=stages, head=wide, resolution=45, dropout=0.1))


def test_cost_of_fitted_networks_matches_torch():
    random_numbers = random.Random(0)
    for name in ("efficientnet_b0", "mobilenet_v2", "resnet50"):
        for _ in range(3):
            limit = cost(get(name)).macs * 2 ** random_numbers.uniform(-2, 1)
            fit = fit_budget(get(name), EFFICIENTNET, Budget(macs=limit))
            by_torch = macs_by_torch(on_meta(fit.network), fit.network.input_shape)
            assert by_torch == fit.limits[0].achieved <= limit


def test_fitted_network_keeps_aspect_ratio_and_meets_its_budget():
    baseline = get("efficientnet_b0@720x184").replace(classes=5, in_channels=2)
    for limit in (50e6, 300e6, 900e6):
        fit = fit_budget(baseline, EFFICIENTNET, Budget(macs=limit))
        _, height, width = fit.network.input_shape
        assert fit.network.aspect_ratio == (90, 23)
        assert width == round(height * 720 / 184)
        assert macs_by_torch(on_meta(fit.network), (2, height, width)) == fit.limits[0].achieved <= limit
        assert fit.limits[0].achieved > 0.9 * limit


def test_narrow_input_is_never_scaled_below_its_last_map():
    baseline = get("efficientnet_b0@160x720").replace(classes=5)
    fit = fit_budget(baseline, EFFICIENTNET, Budget(macs=20e6))
    _, _, width = fit.network.input_shape
    assert (fit.network.aspect_ratio, cost(fit.network).macs <= 20e6) == ((2, 9), True)
    assert width >= baseline.total_stride
    with pytest.raises(BudgetError):
        fit_budget(baseline, EFFICIENTNET, Budget(macs=1e5))


TORCHVISION = {
    "efficientnet_b0": "efficientnet_b0",
    "resnet18": "resnet18",
    "mobilenet_v2": "mobilenet_v2",
    "mnasnet_b1": "mnasnet1_0",
    "mobilenet_v3_small": "mobilenet_v3_small",
    "efficientnetv2_s": "efficientnet_v2_s",
}
TORCHVISION_LARGE = {
    **{f"efficientnet_b{number}": f"efficientnet_b{number}" for number in range(1, 8)},
    **{f"resnet{layers}": f"resnet{layers}" for layers in (34, 50, 101, 152)},
    "mobilenet_v3_large": "mobilenet_v3_large",
    "resnext50_32x4d": "resnext50_32x4d",
}


@pytest.mark.parametrize(("name", "theirs"), [*TORCHVISION.items(), *stressed(*TORCHVISION_LARGE.items())])
def test_cost_matches_torchvision_modules(name, theirs):
    with torch.device("meta"):
        model = torchvision.models.get_model(theirs).eval()
    counted = cost(get(name))
    assert stored(model) == (counted.params, counted.buffers)
    assert macs_by_torch(model, get(name).input_shape) == counted.macs
    if name in ("efficientnet_b0", "resnet18", "mobilenet_v2"):
        wide = cost(get(name).replace(resolution=184, aspect_ratio=(720, 184)))
        assert macs_by_torch(model, (3, 184, 720)) == wide.macs


TIMM = {
    "efficientnetv2_b0": "tf_efficientnetv2_b0",
    "tinynet_e": "tinynet_e",
    "mobilenet_v3_small_075": "tf_mobilenetv3_small_075",
    "mobilenet_v4_conv_small": "mobilenetv4_conv_small",
    "efficientnet_edgetpu_s": "efficientnet_es",
    "regnety_200mf": "regnety_002",
    "resnetrs50": "resnetrs50",
}
TIMM_LARGE = {
    "efficientnetv2_b1": "tf_efficientnetv2_b1",
    "efficientnetv2_b2": "tf_efficientnetv2_b2",
    "efficientnetv2_b3": "tf_efficientnetv2_b3",
    "efficientnetv2_m": "tf_efficientnetv2_m",
    "efficientnetv2_l": "tf_efficientnetv2_l",
    "efficientnetv2_xl": "tf_efficientnetv2_xl",
    "efficientnet_edgetpu_m": "tf_efficientnet_em",
    "efficientnet_edgetpu_l": "tf_efficientnet_el",
    "mobilenet_v3_large_075": "mobilenetv3_large_075",
    "mobilenet_v4_conv_medium": "mobilenetv4_conv_medium",
    "mobilenet_v4_conv_large": "mobilenetv4_conv_large",
    **{f"tinynet_{size}": f"tinynet_{size}" for size in "abcd"},
    **{
        f"regnetx_{size}": f"regnetx_{digits}" for size, digits in (("200mf", "002"), ("6_4gf", "064"), ("12gf", "120"))
    },
    **{
        f"regnety_{size}": f"regnety_{digits}" for size, digits in (("800mf", "008"), ("4_0gf", "040"), ("12gf", "120"))
    },
    "regnety_800mf_torchvision": "regnety_008_tv",
    "resnext101_64x4d": "resnext101_64x4d",
    "resnetrs101": "resnetrs101",
    "resnetrs152": "resnetrs152",
    "resnetrs200": "resnetrs200",
    "resnetrs420": "resnetrs420",
}


@pytest.mark.parametrize(("name", "theirs"), [*TIMM.items(), *stressed(*TIMM_LARGE.items())])
def test_cost_matches_timm_modules(name, theirs):
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        model = timm.create_model(theirs).eval()
    counted = cost(get(name))
    assert stored(model) == (counted.params, counted.buffers)
    assert macs_by_torch(model, get(name).input_shape) == counted.macs
