"""ResNet-18 to 152 (He et al. 2016), with the stride in the 3x3 convolution of a bottleneck, as commonly trained.

Also ResNeXt (Xie et al. 2017, Table 1), whose 3x3 convolutions are grouped and wider, and Wide ResNet with bottlenecks
(Zagoruyko & Komodakis 2016), whose 3x3 convolutions are twice as wide.
"""

from __future__ import annotations

from triscale.families.published import PublishedNetwork
from triscale.network.spec import ActivationKind, Basic, BatchNorm, Bottleneck, Network, Stage, Stem

PAPER = "He et al. 2016, arXiv 1512.03385"
RESNEXT_PAPER = "Xie et al. 2017, arXiv 1611.05431"
WIDE_PAPER = "Zagoruyko & Komodakis 2016, arXiv 1605.07146"


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


def _bottlenecks(
    name: str, block: Bottleneck, repeats: tuple[int, ...], top1: float | None, source: str
) -> PublishedNetwork:
    network = _network(name, block, _BOTTLENECK, repeats)
    return PublishedNetwork(name=name, network=network, resolution=224, top1=top1, source=source)


RESNEXT_MEMBERS: tuple[PublishedNetwork, ...] = (
    _bottlenecks("resnext50_32x4d", Bottleneck(reduction=2, groups=32), (3, 4, 6, 3), 77.8, RESNEXT_PAPER),
    _bottlenecks("resnext101_32x4d", Bottleneck(reduction=2, groups=32), (3, 4, 23, 3), 78.8, RESNEXT_PAPER),
    _bottlenecks("resnext101_32x8d", Bottleneck(reduction=1, groups=32), (3, 4, 23, 3), None, RESNEXT_PAPER),
    _bottlenecks("resnext101_64x4d", Bottleneck(reduction=1, groups=64), (3, 4, 23, 3), 79.6, RESNEXT_PAPER),
)
WIDE_MEMBERS: tuple[PublishedNetwork, ...] = (
    _bottlenecks("wide_resnet50_2", Bottleneck(reduction=2), (3, 4, 6, 3), 78.1, WIDE_PAPER),
    _bottlenecks("wide_resnet101_2", Bottleneck(reduction=2), (3, 4, 23, 3), None, WIDE_PAPER),
)
