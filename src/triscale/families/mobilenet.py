"""MobileNetV1 (Howard et al. 2017) and MobileNetV2 (Sandler et al. 2018) with their width multipliers."""

from __future__ import annotations

from triscale.families.published import PublishedNetwork
from triscale.network.spec import ActivationKind, BatchNorm, Head, MBConv, Network, Separable, Stage, Stem
from triscale.scaling.apply import scale_to

V1_PAPER = "Howard et al. 2017, arXiv 1704.04861"
V2_PAPER = "Sandler et al. 2018, arXiv 1801.04381"

V1 = Network(
    name="mobilenet_v1",
    stem=Stem(width=32, activation=ActivationKind.RELU6),
    stages=tuple(
        Stage(block=Separable(activation=ActivationKind.RELU6), width=width, repeats=repeats, stride=stride)
        for width, repeats, stride in ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
    ),
    resolution=224,
    dropout=0.001,
    padding="same",
    norm=BatchNorm(eps=1e-3, momentum=0.01),
)

V2 = Network(
    name="mobilenet_v2",
    stem=Stem(width=32, activation=ActivationKind.RELU6),
    stages=tuple(
        Stage(
            block=MBConv(expansion=expansion, activation=ActivationKind.RELU6),
            width=width,
            repeats=repeats,
            stride=stride,
        )
        for expansion, width, repeats, stride in (
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        )
    ),
    head=Head(width=1280, activation=ActivationKind.RELU6, width_rule="never_narrower"),
    resolution=224,
    dropout=0.2,
    padding="symmetric",
    norm=BatchNorm(eps=1e-5, momentum=0.1),
)


def _member(baseline: Network, name: str, width: float, top1: float, source: str) -> PublishedNetwork:
    scaled = scale_to(baseline, depth=1.0, width=width, resolution=224)
    return PublishedNetwork(
        name=name, network=scaled.replace(name=name), width=width, resolution=224, top1=top1, source=source
    )


V1_MEMBERS: tuple[PublishedNetwork, ...] = (
    _member(V1, "mobilenet_v1", 1.0, 70.6, V1_PAPER),
    _member(V1, "mobilenet_v1_075", 0.75, 68.4, V1_PAPER),
    _member(V1, "mobilenet_v1_050", 0.5, 63.7, V1_PAPER),
    _member(V1, "mobilenet_v1_025", 0.25, 50.6, V1_PAPER),
)

V2_MEMBERS: tuple[PublishedNetwork, ...] = (
    _member(V2, "mobilenet_v2", 1.0, 72.0, V2_PAPER),
    _member(V2, "mobilenet_v2_140", 1.4, 74.7, V2_PAPER),
)
