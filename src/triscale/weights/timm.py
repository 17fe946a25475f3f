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

_SE: Rules = (
    ("stages.*.blocks.*.se.reduce", "blocks.{stage}.{block}.se.conv_reduce"),
    ("stages.*.blocks.*.se.expand", "blocks.{stage}.{block}.se.conv_expand"),
)
_LAYERS: Rules = (
    ("stages.*.blocks.*.expand.conv", "blocks.{stage}.{block}.conv_pw"),
    ("stages.*.blocks.*.spatial.conv", "blocks.{stage}.{block}.conv_exp"),
    ("stages.*.blocks.*.depthwise.conv", "blocks.{stage}.{block}.conv_dw"),
    ("stages.*.blocks.*.project.conv", "blocks.{stage}.{block}.conv_pwl"),
    ("stages.*.blocks.*.*.norm", "blocks.{stage}.{block}.bn{nth+1}"),
)
"""Layers of inverted bottlenecks, full and fused."""
_LAST_STAGE: Rules = (("head.conv", "blocks.{stages}.0.conv"), ("head.norm", "blocks.{stages}.0.bn1"))
"""The convolution before the pool, which is a stage there if a wide layer follows the pool."""

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
    "fused": (*_ENDS, *_SE, *_LAYERS),
    "fused_v2": (*_ENDS, *_SE, ("stages.0.blocks.*.spatial.conv", "blocks.0.{block}.conv"), *_LAYERS),
    "mobilenetv3": (
        *_LAST_STAGE,
        ("head.wide.conv", "conv_head"),
        *_ENDS,
        *_SE,
        ("stages.0.blocks.*.project.conv", "blocks.0.{block}.conv_pw"),
        *_LAYERS,
    ),
    "mobilenetv4": (
        *_LAST_STAGE,
        ("head.wide.conv", "conv_head"),
        ("head.wide.norm", "norm_head"),
        *_ENDS,
        ("stages.*.blocks.*.conv", "blocks.{stage}.{block}.conv"),
        ("stages.*.blocks.*.norm", "blocks.{stage}.{block}.bn1"),
        ("stages.0.blocks.*.spatial.conv", "blocks.0.{block}.conv_exp"),
        ("stages.0.blocks.*.project.conv", "blocks.0.{block}.conv_pwl"),
        ("stages.0.blocks.*.*.norm", "blocks.0.{block}.bn{nth+1}"),
        *(
            (f"stages.*.blocks.*.{ours}.{part}", f"blocks.{{stage}}.{{block}}.{theirs}.{their_part}")
            for ours, theirs in (
                ("start", "dw_start"),
                ("expand", "pw_exp"),
                ("depthwise", "dw_mid"),
                ("project", "pw_proj"),
            )
            for part, their_part in (("conv", "conv"), ("norm", "bn"))
        ),
    ),
    "regnet": (
        ("stem.conv", "stem.conv"),
        ("stem.norm", "stem.bn"),
        ("stages.*.blocks.*.se.reduce", "s{stage+1}.b{block+1}.se.fc1"),
        ("stages.*.blocks.*.se.expand", "s{stage+1}.b{block+1}.se.fc2"),
        ("stages.*.blocks.*.shortcut.conv", "s{stage+1}.b{block+1}.downsample.conv"),
        ("stages.*.blocks.*.shortcut.norm", "s{stage+1}.b{block+1}.downsample.bn"),
        ("stages.*.blocks.*.*.conv", "s{stage+1}.b{block+1}.conv{nth+1}.conv"),
        ("stages.*.blocks.*.*.norm", "s{stage+1}.b{block+1}.conv{nth+1}.bn"),
        ("head.classifier", "head.fc"),
    ),
    "resnetrs": (
        ("stem.conv", "conv1.0"),
        ("stem.norm", "conv1.1"),
        ("stages.0.blocks.0.conv", "conv1.3"),
        ("stages.0.blocks.0.norm", "conv1.4"),
        ("stages.1.blocks.0.conv", "conv1.6"),
        ("stages.1.blocks.0.norm", "bn1"),
        ("stages.2.blocks.0.conv", "maxpool.0"),
        ("stages.2.blocks.0.norm", "maxpool.1"),
        ("stages.*.blocks.*.se.reduce", "layer{stage-2}.{block}.se.fc1"),
        ("stages.*.blocks.*.se.expand", "layer{stage-2}.{block}.se.fc2"),
        ("stages.*.blocks.*.shortcut.conv", "layer{stage-2}.{block}.downsample.1"),
        ("stages.*.blocks.*.shortcut.norm", "layer{stage-2}.{block}.downsample.2"),
        ("stages.*.blocks.*.*.conv", "layer{stage-2}.{block}.conv{nth+1}"),
        ("stages.*.blocks.*.*.norm", "layer{stage-2}.{block}.bn{nth+1}"),
        ("head.classifier", "fc"),
    ),
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
    groups: tuple[int, ...] = (),
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
        groups=groups,
    )


def _both_paddings(name: str, base: str, family: str, groups: tuple[int, ...] = ()) -> tuple[Architecture, ...]:
    """Return the rows of a network that exists with PyTorch's and with TensorFlow's padding."""
    return (
        _row(name, base, family, groups=groups),
        _row(f"tf_{name}", base, family, padding="same", groups=groups),
    )


_V3_LARGE, _V3_SMALL = (1, 2, 1, 3, 1, 1), (1, 2, 2, 1, 1)
_V4_GROUPS = {"small": (2, 2, 3, 5), "medium": (1, 2, 7, 9), "large": (1, 2, 5, 8)}
_REGNET_SIZES = dict(
    zip(
        ["200mf", "400mf", "600mf", "800mf", "1_6gf", "3_2gf", "4_0gf", "6_4gf", "8_0gf", "12gf", "16gf", "32gf"],
        ["002", "004", "006", "008", "016", "032", "040", "064", "080", "120", "160", "320"],
        strict=True,
    )
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
    *(_row(name, name, "resnet") for name in ("resnext50_32x4d", "resnext101_32x4d", "resnext101_32x8d")),
    *(_row(name, name, "resnet") for name in ("resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2")),
    *(
        _row(f"tf_efficientnetv2_b{number}", f"efficientnetv2_b{number}", "fused_v2", padding="same")
        for number in range(4)
    ),
    *(
        row
        for size in ("s", "m", "l", "xl")
        for row in _both_paddings(f"efficientnetv2_{size}", f"efficientnetv2_{size}", "fused_v2")
    ),
    *(
        row
        for size, groups in (("s", ()), ("m", (2, 1, 1, 1, 1, 1)), ("l", (2, 1, 1, 1, 1, 1)))
        for row in _both_paddings(f"efficientnet_e{size}", f"efficientnet_edgetpu_{size}", "fused", groups)
    ),
    *(_row(f"tinynet_{size}", f"tinynet_{size}") for size in "abcde"),
    *_both_paddings("mobilenetv3_large_100", "mobilenet_v3_large", "mobilenetv3", _V3_LARGE),
    *_both_paddings("mobilenetv3_large_075", "mobilenet_v3_large_075", "mobilenetv3", _V3_LARGE),
    *_both_paddings("mobilenetv3_small_100", "mobilenet_v3_small", "mobilenetv3", _V3_SMALL),
    *_both_paddings("mobilenetv3_small_075", "mobilenet_v3_small_075", "mobilenetv3", _V3_SMALL),
    *(
        _row(f"mobilenetv4_conv_{size}", f"mobilenet_v4_conv_{size}", "mobilenetv4", groups=groups)
        for size, groups in _V4_GROUPS.items()
    ),
    *(
        _row(f"regnet{letter}_{digits}", f"regnet{letter}_{size}", "regnet")
        for letter in "xy"
        for size, digits in _REGNET_SIZES.items()
    ),
    _row("regnetx_004_tv", "regnetx_400mf_torchvision", "regnet"),
    _row("regnety_008_tv", "regnety_800mf_torchvision", "regnet"),
    _row("regnety_080_tv", "regnety_8_0gf_torchvision", "regnet"),
    *(_row(f"resnetrs{layers}", f"resnetrs{layers}", "resnetrs") for layers in (50, 101, 152, 200, 270, 350, 420)),
)
