"""Name rules and architectures of torchvision's classifiers.

From ``torchvision.models`` 0.29; EfficientNet B5-B7 have other batch norm parameters than B0-B4.
"""

from __future__ import annotations

from triscale.network.spec import BatchNorm
from triscale.weights.architecture import Architecture, Rules

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
}

VERSIONS = {"mnasnet": {"": {"version": 2}}}
"""Families whose ``load_state_dict`` checks the version of their modules."""

_DEFAULT = BatchNorm(eps=1e-5, momentum=0.1)
_LARGE = BatchNorm(eps=1e-3, momentum=0.01)
_MNASNET = BatchNorm(eps=1e-5, momentum=0.0003)


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
)
