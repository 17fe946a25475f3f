"""Name rules and architectures of torchvision's classifiers.

From ``torchvision.models`` 0.29; EfficientNet B5-B7 have other batch norm parameters than B0-B4.
"""

from __future__ import annotations

from triscale.network.spec import BatchNorm
from triscale.weights.architecture import Architecture, Rules

_REGNET_BLOCK = "trunk_output.block{stage+1}.block{stage+1}-{block}"

RULES: dict[str, Rules] = {
    "efficientnet": (
        ("stem.conv", "features.0.0"),
        ("stem.norm", "features.0.1"),
        ("stages.*.blocks.*.se.reduce", "features.{stage+1}.{block}.block.{at}.fc1"),
        ("stages.*.blocks.*.se.expand", "features.{stage+1}.{block}.block.{at}.fc2"),
        ("stages.*.blocks.*.*.conv", "features.{stage+1}.{block}.block.{at}.0"),
        ("stages.*.blocks.*.*.norm", "features.{stage+1}.{block}.block.{at}.1"),
        ("head.conv", "features.{stages+1}.0"),
        ("head.norm", "features.{stages+1}.1"),
        ("head.classifier", "classifier.1"),
    ),
    "mobilenet_v2": (
        ("stem.conv", "features.0.0"),
        ("stem.norm", "features.0.1"),
        ("stages.*.blocks.*.project.conv", "features.{index+1}.conv.{at}"),
        ("stages.*.blocks.*.project.norm", "features.{index+1}.conv.{at+1}"),
        ("stages.*.blocks.*.*.conv", "features.{index+1}.conv.{at}.0"),
        ("stages.*.blocks.*.*.norm", "features.{index+1}.conv.{at}.1"),
        ("head.conv", "features.{blocks+1}.0"),
        ("head.norm", "features.{blocks+1}.1"),
        ("head.classifier", "classifier.1"),
    ),
    "mnasnet": (
        ("stem.conv", "layers.0"),
        ("stem.norm", "layers.1"),
        ("stages.0.blocks.0.*.conv", "layers.{at*3+3}"),
        ("stages.0.blocks.0.*.norm", "layers.{at*3+4}"),
        ("stages.*.blocks.*.*.conv", "layers.{stage+7}.{block}.layers.{at*3}"),
        ("stages.*.blocks.*.*.norm", "layers.{stage+7}.{block}.layers.{at*3+1}"),
        ("head.conv", "layers.{stages+7}"),
        ("head.norm", "layers.{stages+8}"),
        ("head.classifier", "classifier.1"),
    ),
    "resnet": (
        ("stem.conv", "conv1"),
        ("stem.norm", "bn1"),
        ("stages.*.blocks.*.shortcut.conv", "layer{stage+1}.{block}.downsample.0"),
        ("stages.*.blocks.*.shortcut.norm", "layer{stage+1}.{block}.downsample.1"),
        ("stages.*.blocks.*.*.conv", "layer{stage+1}.{block}.conv{at+1}"),
        ("stages.*.blocks.*.*.norm", "layer{stage+1}.{block}.bn{at+1}"),
        ("head.classifier", "fc"),
    ),
    "mobilenet_v3": (
        ("stem.conv", "features.0.0"),
        ("stem.norm", "features.0.1"),
        ("stages.*.blocks.*.se.reduce", "features.{index+1}.block.{at}.fc1"),
        ("stages.*.blocks.*.se.expand", "features.{index+1}.block.{at}.fc2"),
        ("stages.*.blocks.*.*.conv", "features.{index+1}.block.{at}.0"),
        ("stages.*.blocks.*.*.norm", "features.{index+1}.block.{at}.1"),
        ("head.conv", "features.{blocks+1}.0"),
        ("head.norm", "features.{blocks+1}.1"),
        ("head.wide.conv", "classifier.0:linear"),
        ("head.classifier", "classifier.3"),
    ),
    "regnet": (
        ("stem.conv", "stem.0"),
        ("stem.norm", "stem.1"),
        ("stages.*.blocks.*.shortcut.conv", f"{_REGNET_BLOCK}.proj.0"),
        ("stages.*.blocks.*.shortcut.norm", f"{_REGNET_BLOCK}.proj.1"),
        ("stages.*.blocks.*.se.reduce", f"{_REGNET_BLOCK}.f.se.fc1"),
        ("stages.*.blocks.*.se.expand", f"{_REGNET_BLOCK}.f.se.fc2"),
        *(
            (f"stages.*.blocks.*.{layer}.{part}", f"{_REGNET_BLOCK}.f.{letter}.{number}")
            for layer, letter in (("reduce", "a"), ("spatial", "b"), ("restore", "c"))
            for number, part in enumerate(("conv", "norm"))
        ),
        ("head.classifier", "fc"),
    ),
}

VERSIONS = {"mnasnet": {"": {"version": 2}}}
"""Families whose ``load_state_dict`` checks the version of their modules."""

_DEFAULT = BatchNorm(eps=1e-5, momentum=0.1)
_LARGE = BatchNorm(eps=1e-3, momentum=0.01)
_V2 = BatchNorm(eps=1e-3, momentum=0.1)
_MNASNET = BatchNorm(eps=1e-5, momentum=0.0003)

_REGNET_SIZES = {size: size for size in ("400mf", "800mf", "1_6gf", "3_2gf", "16gf", "32gf")} | {"8gf": "8_0gf"}
_OTHER_WIDTHS = {
    ("x", "400mf"): "regnetx_400mf_torchvision",
    ("y", "800mf"): "regnety_800mf_torchvision",
    ("y", "8gf"): "regnety_8_0gf_torchvision",
}


def _row(name: str, family: str, base: str, norm: BatchNorm = _DEFAULT, width: float = 1.0) -> Architecture:
    return Architecture(name=name, family=family, base=base, padding="symmetric", norm=norm, width=width)


ARCHITECTURES: tuple[Architecture, ...] = (
    *(_row(f"efficientnet_b{number}", "efficientnet", f"efficientnet_b{number}") for number in range(5)),
    *(_row(f"efficientnet_b{number}", "efficientnet", f"efficientnet_b{number}", _LARGE) for number in range(5, 8)),
    _row("mobilenet_v2", "mobilenet_v2", "mobilenet_v2"),
    _row("mnasnet0_5", "mnasnet", "mnasnet_b1", _MNASNET, 0.5),
    _row("mnasnet0_75", "mnasnet", "mnasnet_b1", _MNASNET, 0.75),
    _row("mnasnet1_0", "mnasnet", "mnasnet_b1", _MNASNET),
    _row("mnasnet1_3", "mnasnet", "mnasnet_b1", _MNASNET, 1.3),
    *(_row(f"resnet{layers}", "resnet", f"resnet{layers}") for layers in (18, 34, 50, 101, 152)),
    *(_row(name, "resnet", name) for name in ("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d")),
    *(_row(name, "resnet", name) for name in ("wide_resnet50_2", "wide_resnet101_2")),
    *(_row(f"efficientnet_v2_{size}", "efficientnet", f"efficientnetv2_{size}", _V2) for size in "sml"),
    *(_row(f"mobilenet_v3_{size}", "mobilenet_v3", f"mobilenet_v3_{size}", _LARGE) for size in ("large", "small")),
    *(
        _row(f"regnet_{letter}_{size}", "regnet", f"regnet{letter}_{base}")
        for letter in "xy"
        for size, base in _REGNET_SIZES.items()
        if (letter, size) not in _OTHER_WIDTHS
    ),
    *(_row(f"regnet_{letter}_{size}", "regnet", base) for (letter, size), base in _OTHER_WIDTHS.items()),
)
