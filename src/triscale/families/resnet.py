"""ResNet-18 to 152 (He et al. 2016), with the stride in the 3x3 convolution of a bottleneck, as commonly trained."""

from __future__ import annotations

from triscale.families.published import PublishedNetwork
from triscale.network.spec import ActivationKind, Basic, BatchNorm, Bottleneck, Network, Stage, Stem

PAPER = "He et al. 2016, arXiv 1512.03385"


def _network(name: str, block: Basic | Bottleneck, widths: tuple[int, ...], repeats: tuple[int, ...]) -> Network:
    strides = (1, 2, 2, 2)
    return Network(
        name=name,
        stem=Stem(width=64, kernel=7, activation=ActivationKind.RELU, max_pool=True),
        stages=tuple(
            Stage(block=block, width=width, repeats=number, stride=stride)
            for width, number, stride in zip(widths, repeats, strides, strict=True)
        ),
        resolution=224,
        padding="symmetric",
        norm=BatchNorm(eps=1e-5, momentum=0.1),
    )


_BASIC = (64, 128, 256, 512)
_BOTTLENECK = (256, 512, 1024, 2048)

RESNET18 = _network("resnet18", Basic(), _BASIC, (2, 2, 2, 2))
RESNET34 = _network("resnet34", Basic(), _BASIC, (3, 4, 6, 3))
RESNET50 = _network("resnet50", Bottleneck(), _BOTTLENECK, (3, 4, 6, 3))
RESNET101 = _network("resnet101", Bottleneck(), _BOTTLENECK, (3, 4, 23, 3))
RESNET152 = _network("resnet152", Bottleneck(), _BOTTLENECK, (3, 8, 36, 3))

MEMBERS: tuple[PublishedNetwork, ...] = tuple(
    PublishedNetwork(name=network.name, network=network, resolution=224, top1=top1, source=PAPER)
    for network, top1 in (
        (RESNET18, None),
        (RESNET34, None),
        (RESNET50, 76.0),
        (RESNET101, None),
        (RESNET152, None),
    )
)
