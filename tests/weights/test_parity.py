"""Imported weights compute what the modules of the other projects compute."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from triscale.nn.build import build
from triscale.weights.bundle import AVERAGE, to_torch
from triscale.weights.export import export_state
from triscale.weights.rules import to_triscale
from triscale.weights.sources import SOURCES, get_architecture

from . import others

QUICK = {
    "torchvision": (
        "efficientnet_b0 efficientnet_b5 mobilenet_v2 mnasnet0_5 mnasnet1_0 resnet18 resnet50 "
        "mobilenet_v3_large mobilenet_v3_small regnet_x_400mf regnet_y_400mf"
    ),
    "timm": (
        "efficientnet_b0 efficientnet_lite0 tf_efficientnet_b0 tf_efficientnet_lite0 mobilenetv1_100 mobilenetv1_100h "
        "mobilenetv1_125 mobilenetv2_035 mobilenetv2_100 mobilenetv2_110d mobilenetv2_140 mnasnet_100 semnasnet_075 "
        "semnasnet_100 resnet18 resnet50 tf_efficientnetv2_b0 efficientnet_es "
        "tinynet_e mobilenetv3_large_100 tf_mobilenetv3_large_075 mobilenetv3_small_075 tf_mobilenetv3_small_100 "
        "mobilenetv4_conv_small regnetx_002 regnety_002"
    ),
    "lukemelas": "efficientnet-b0 efficientnet-b1",
    "google": "efficientnet-b0",
}
LACKING = {
    ("lukemelas", "efficientnet-l2"),
    *(("lukemelas", f"efficientnet-lite{number}") for number in range(5)),
    *(("google", f"efficientnet-lite{number}") for number in range(5)),
}
"""Networks without a reference module: the port does not define their sizes."""

LARGE = (
    "b5",
    "b6",
    "b7",
    "b8",
    "l2",
    "v2_l",
    "v2_xl",
    "12gf",
    "16gf",
    "32gf",
    "120",
    "160",
    "320",
    "350",
    "420",
    "270",
)
"""Ends of the names of networks that take long to build."""

PIXELS = 78
"""Of the maps of its strides, 39 and 5 are odd and 78, 20 and 10 even: the paddings differ only for the latter."""

STRESSED = ("efficientnet_v2_s", "efficientnetv2_s", "tf_efficientnet_em", "mobilenetv4_conv_medium", "resnetrs50")
"""Networks that take some seconds."""

SAMPLES = 8
"""For the statistics of batch norm."""


def _mark(source: str, name: str) -> list[pytest.MarkDecorator]:
    if name in STRESSED:
        return [pytest.mark.stress]
    return [] if name in QUICK[source].split() else [pytest.mark.slow]


CASES = [
    pytest.param(*case, marks=_mark(*case))
    for case in others.all_architectures()
    if case not in LACKING and not case[1].endswith("l2")
]


def imported(source: str, name: str, model: nn.Module) -> dict[str, Tensor]:
    """Return the state of their module under our names, through the map of its source."""
    architecture = get_architecture(source, name)
    state = model.state_dict()
    if source == "google":
        variables = others.tensorflow_variables(state, name, architecture.network)
        averaged = {key + AVERAGE: values for key, values in variables.items()}
        late = {key: values + 1 for key, values in variables.items()}
        state, _ = to_torch(late | averaged)
    return to_triscale(
        state, architecture.network, SOURCES[source].rules[architecture.family], "theirs", groups=architecture.groups
    )


def near(result: Tensor, expected: Tensor, tolerance: float) -> None:
    """Compare relative to the largest value."""
    peak = float(expected.abs().max())
    torch.testing.assert_close(result / peak, expected / peak, rtol=tolerance, atol=tolerance)


@torch.no_grad()
@pytest.mark.parametrize(("source", "name"), [("timm", "tf_efficientnet_b0"), ("torchvision", "resnet18")])
def test_logits_of_rectangular_images_match_original(source, name):
    network = get_architecture(source, name).network
    torch.manual_seed(1)
    images = torch.randn(SAMPLES, 3, 47, 130)
    model = others.with_random_weights(others.their_module(source, name, PIXELS), images)
    ours = build(network.replace(resolution=47, aspect_ratio=(130, 47))).eval()
    ours.load_state_dict(imported(source, name, model), strict=True)
    near(ours(images[:2]), model(images[:2]), 1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("source", "name"), CASES)
def test_logits_and_feature_maps_match_original(source, name):
    architecture = get_architecture(source, name)
    network = architecture.network
    torch.manual_seed(1)
    images = torch.randn(SAMPLES, 3, PIXELS, PIXELS)
    model = others.with_random_weights(others.their_module(source, name, PIXELS), images)
    ours = build(network)
    ours.load_state_dict(imported(source, name, model), strict=True)
    ours.eval()
    images = images[:2]
    expected = model(images)
    assert expected.std() > 1e-3
    logits = ours(images)
    names, images = others.names_of_maps(source, architecture, network), images.double()
    exact, their_maps = others.their_maps(model.double(), names, images)
    # Deep networks with random weights amplify rounding errors, some by 10,000; the logits show by how much.
    noise = float((expected - exact).abs().max() / exact.abs().max())
    near(logits, expected, 1e-5 + 5 * noise)
    last, our_maps = ours.double().forward_intermediates(images)
    our_maps.append(last)
    near(ours.forward_head(last), exact, 1e-9 + 1e-5 * noise)
    assert [tuple(result.shape) for result in our_maps] == [tuple(wanted.shape) for wanted in their_maps]
    for result, wanted in zip(our_maps, their_maps, strict=True):
        near(result, wanted, 1e-9 + 1e-5 * noise)


@torch.no_grad()
@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("torchvision", "efficientnet_b0"),
        ("torchvision", "mobilenet_v2"),
        ("torchvision", "mnasnet1_0"),
        ("torchvision", "mnasnet0_5"),
        ("torchvision", "resnet50"),
        ("timm", "tf_efficientnet_b0"),
        ("timm", "mobilenetv1_100"),
        ("timm", "mobilenetv2_100"),
        ("timm", "semnasnet_100"),
        ("timm", "resnet18"),
        ("torchvision", "mobilenet_v3_small"),
        ("torchvision", "regnet_y_400mf"),
        ("timm", "tf_efficientnetv2_b0"),
        ("timm", "mobilenetv4_conv_small"),
        ("timm", "regnety_002"),
        ("lukemelas", "efficientnet-b0"),
    ],
)
def test_exported_weights_load_into_the_original_modules(source, name):
    network = get_architecture(source, name).network
    torch.manual_seed(2)
    images = torch.randn(SAMPLES, 3, PIXELS, PIXELS)
    theirs = others.with_random_weights(others.their_module(source, name, PIXELS), images)
    ours = build(network)
    ours.load_state_dict(imported(source, name, theirs), strict=True)
    exported = export_state(ours.state_dict(), network, source, name)
    again = others.their_module(source, name, PIXELS).eval()
    again.load_state_dict(exported, strict=True)
    for key, values in theirs.state_dict().items():
        torch.testing.assert_close(exported[key], values, rtol=0, atol=0)
    near(again(images), ours.eval()(images), 1e-5)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        pytest.param(*case, marks=pytest.mark.slow if case[1].endswith(LARGE) else ())
        for case in others.all_architectures()
        if case not in LACKING and case[0] != "google"
    ],
)
@pytest.mark.stress
def test_every_name_is_mapped_once_and_norms_match(source, name):
    architecture = get_architecture(source, name)
    with torch.device("meta"):
        model = others.their_module(source, name, PIXELS)
    state = model.state_dict()
    rules = SOURCES[source].rules[architecture.family]
    mapped = to_triscale(state, architecture.network, rules, "theirs", groups=architecture.groups)
    assert len(mapped) == len(state) == len({id(tensor) for tensor in mapped.values()})
    norms = {(part.eps, round(part.momentum, 9)) for part in model.modules() if isinstance(part, nn.BatchNorm2d)}
    assert norms == {(architecture.norm.eps, architecture.norm.momentum)}


def test_lite_checkpoints_lack_squeeze_and_excitation_names():
    lite = get_architecture("google", "efficientnet-lite0").network
    rules = SOURCES["google"].rules["efficientnet"]
    ours = build(lite).state_dict()
    from triscale.weights.rules import from_triscale

    names = set(from_triscale(ours, lite, rules))
    full = get_architecture("google", "efficientnet-b0").network
    others_names = set(from_triscale(build(full).state_dict(), full, rules))
    assert {name for name in others_names if "/se/" not in name} == names
