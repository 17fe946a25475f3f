"""Name rules and architectures of timm's classifiers.

From timm 1.0.31. Its ``tf_*`` networks use TensorFlow's padding and batch norm epsilon. An inverted bottleneck of
expansion 1 is a depthwise-separable block there, whose layers have other names.
"""

from __future__ import annotations

from triscale.network.spec import BatchNorm, Padding
from triscale.weights.architecture import Architecture, Rules
from triscale.weights.torchvision import RULES as _TORCHVISION

_ENDS: Rules = (
    ("stem.conv", "conv_stem"),
    ("stem.norm", "bn1"),
    ("head.conv", "conv_head"),
    ("head.norm", "bn2"),
    ("head.classifier", "classifier"),
)

RULES: dict[str, Rules] = {
    "inverted": (
        *_ENDS,
        ("stages.*.blocks.*.se.reduce", "blocks.{stage}.{block}.se.conv_reduce"),
        ("stages.*.blocks.*.se.expand", "blocks.{stage}.{block}.se.conv_expand"),
        ("stages.*.blocks.*.depthwise.conv", "blocks.{stage}.{block}.conv_dw"),
        ("stages.0.blocks.*.depthwise.norm", "blocks.0.{block}.bn1"),
        ("stages.0.blocks.*.project.conv", "blocks.0.{block}.conv_pw"),
        ("stages.0.blocks.*.project.norm", "blocks.0.{block}.bn2"),
        ("stages.*.blocks.*.expand.conv", "blocks.{stage}.{block}.conv_pw"),
        ("stages.*.blocks.*.expand.norm", "blocks.{stage}.{block}.bn1"),
        ("stages.*.blocks.*.depthwise.norm", "blocks.{stage}.{block}.bn2"),
        ("stages.*.blocks.*.project.conv", "blocks.{stage}.{block}.conv_pwl"),
        ("stages.*.blocks.*.project.norm", "blocks.{stage}.{block}.bn3"),
    ),
    "separable": (
        *_ENDS,
        ("stages.*.blocks.*.depthwise.conv", "blocks.{stage}.{block}.conv_dw"),
        ("stages.*.blocks.*.depthwise.norm", "blocks.{stage}.{block}.bn1"),
        ("stages.*.blocks.*.pointwise.conv", "blocks.{stage}.{block}.conv_pw"),
        ("stages.*.blocks.*.pointwise.norm", "blocks.{stage}.{block}.bn2"),
    ),
    "resnet": _TORCHVISION["resnet"],
}

_DEFAULT = BatchNorm(eps=1e-5, momentum=0.1)
_TENSORFLOW = BatchNorm(eps=1e-3, momentum=0.1)


def _row(
    name: str,
    base: str,
    family: str = "inverted",
    *,
    padding: Padding = "symmetric",
    depth: float = 1.0,
    width: float = 1.0,
    fixed_ends: bool = False,
    head: int | None = None,
) -> Architecture:
    return Architecture(
        name=name,
        family=family,
        base=base,
        padding=padding,
        norm=_TENSORFLOW if padding == "same" else _DEFAULT,
        depth=depth,
        width=width,
        fixed_ends=fixed_ends,
        head=head,
    )


_SIZES = (*(f"b{number}" for number in range(9)), "l2", *(f"lite{number}" for number in range(5)))

ARCHITECTURES: tuple[Architecture, ...] = (
    *(_row(f"efficientnet_{size}", f"efficientnet_{size}") for size in _SIZES),
    *(_row(f"tf_efficientnet_{size}", f"efficientnet_{size}", padding="same") for size in _SIZES),
    _row("mobilenetv1_100", "mobilenet_v1", "separable"),
    _row("mobilenetv1_100h", "mobilenet_v1", "separable", head=1024),
    _row("mobilenetv1_125", "mobilenet_v1", "separable", width=1.25),
    _row("mobilenetv2_035", "mobilenet_v2", width=0.35),
    _row("mobilenetv2_050", "mobilenet_v2", width=0.5),
    _row("mobilenetv2_075", "mobilenet_v2", width=0.75),
    _row("mobilenetv2_100", "mobilenet_v2"),
    _row("mobilenetv2_110d", "mobilenet_v2", depth=1.2, width=1.1, fixed_ends=True),
    _row("mobilenetv2_120d", "mobilenet_v2", depth=1.4, width=1.2, fixed_ends=True),
    _row("mobilenetv2_140", "mobilenet_v2_140"),
    _row("mnasnet_050", "mnasnet_b1", width=0.5),
    _row("mnasnet_075", "mnasnet_b1", width=0.75),
    _row("mnasnet_100", "mnasnet_b1"),
    _row("mnasnet_140", "mnasnet_b1", width=1.4),
    _row("semnasnet_050", "mnasnet_a1", width=0.5),
    _row("semnasnet_075", "mnasnet_a1", width=0.75),
    _row("semnasnet_100", "mnasnet_a1"),
    _row("semnasnet_140", "mnasnet_a1", width=1.4),
    *(_row(f"resnet{layers}", f"resnet{layers}", "resnet") for layers in (18, 34, 50, 101, 152)),
)
