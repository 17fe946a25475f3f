"""MCUNet (Lin et al. 2020): networks for microcontrollers, found by search, and two small MobileNetV2 of its authors.

Blocks are those of MobileNetV2; each has a kernel and an expansion of its own, so that each is a stage. There is no
convolution after the last stage, unlike in MobileNetV2, whose head is as narrow as the rest here. Padding is SAME,
which is free in LiteRT; the authors' PyTorch code pads symmetrically.
"""

from __future__ import annotations

from triscale.families.mobilenet import V2
from triscale.families.published import PublishedNetwork
from triscale.network.spec import ActivationKind, BatchNorm, Head, MBConv, Network, Stage, Stem
from triscale.scaling.apply import scale_to

PAPER = "Lin et al. 2020, arXiv 2007.10319; mit-han-lab/mcunet"

Row = tuple[int, int, int, int]
"""Expansion, kernel, width and stride of a block."""


def _network(name: str, resolution: int, stem: int, rows: tuple[Row, ...]) -> Network:
    return Network(
        name=name,
        stem=Stem(width=stem, activation=ActivationKind.RELU6),
        stages=tuple(
            Stage(
                block=MBConv(expansion=expansion, kernel=kernel, activation=ActivationKind.RELU6),
                width=width,
                repeats=1,
                stride=stride,
            )
            for expansion, kernel, width, stride in rows
        ),
        resolution=resolution,
        norm=BatchNorm(eps=1e-5, momentum=0.1),
    )


def _mobilenet_v2(name: str, width: float, resolution: int) -> Network:
    head = Head(width=V2.head.width, activation=ActivationKind.RELU6)
    baseline = V2.replace(name=name, head=head, padding="same", norm=BatchNorm(eps=1e-3, momentum=0.1))
    return scale_to(baseline, depth=1.0, width=width, resolution=resolution)


def _member(network: Network, top1: float) -> PublishedNetwork:
    return PublishedNetwork(name=network.name, network=network, resolution=network.resolution, top1=top1, source=PAPER)


MEMBERS: tuple[PublishedNetwork, ...] = (
    _member(
        _network(
            "mcunet_10fps", 48, 24,
            (
                (1, 3, 16, 1), (4, 5, 16, 2), (3, 3, 16, 1), (4, 3, 16, 1), (5, 7, 24, 2), (4, 5, 24, 1),
                (5, 5, 24, 1), (5, 7, 48, 2), (4, 5, 48, 1), (5, 3, 56, 1), (4, 5, 56, 1), (5, 3, 56, 1),
                (6, 3, 112, 2), (4, 5, 112, 1), (6, 3, 192, 1),
            ),
        ),
        41.5,
    ),
    _member(
        _network(
            "mcunet_5fps", 96, 16,
            (
                (1, 3, 8, 1), (4, 3, 16, 2), (3, 3, 16, 1), (3, 7, 24, 2), (5, 3, 24, 1), (5, 3, 40, 2),
                (4, 7, 40, 1), (4, 5, 48, 1), (3, 3, 48, 1), (4, 3, 48, 1), (5, 7, 96, 2), (4, 5, 96, 1),
                (4, 5, 96, 1), (6, 3, 160, 1),
            ),
        ),
        51.5,
    ),
    _member(
        _network(
            "mcunet_256kb", 160, 16,
            (
                (1, 3, 8, 1), (3, 5, 16, 2), (6, 7, 16, 1), (5, 3, 16, 1), (5, 5, 16, 1), (5, 3, 24, 2),
                (6, 7, 24, 1), (6, 5, 24, 1), (4, 7, 40, 2), (5, 5, 40, 1), (5, 3, 48, 1), (5, 5, 48, 1),
                (4, 3, 48, 1), (6, 5, 96, 2), (4, 5, 96, 1), (3, 5, 96, 1), (4, 3, 96, 1), (5, 5, 160, 1),
            ),
        ),
        60.9,
    ),
    _member(
        _network(
            "mcunet_320kb", 176, 16,
            (
                (1, 3, 8, 1), (3, 7, 16, 2), (5, 3, 16, 1), (5, 7, 16, 1), (4, 5, 16, 1), (5, 5, 24, 2),
                (5, 5, 24, 1), (5, 5, 24, 1), (5, 3, 40, 2), (6, 7, 40, 1), (4, 5, 40, 1), (5, 5, 48, 1),
                (5, 7, 48, 1), (5, 3, 48, 1), (6, 3, 96, 2), (5, 7, 96, 1), (4, 3, 96, 1), (5, 7, 160, 1),
            ),
        ),
        62.2,
    ),
    _member(
        _network(
            "mcunet_512kb", 160, 32,
            (
                (1, 3, 16, 1), (3, 7, 24, 2), (5, 3, 24, 1), (4, 5, 24, 1), (5, 7, 40, 2), (4, 3, 40, 1),
                (4, 7, 40, 1), (3, 7, 80, 2), (3, 3, 80, 1), (3, 7, 80, 1), (4, 3, 96, 1), (3, 5, 96, 1),
                (3, 5, 96, 1), (4, 7, 192, 2), (3, 7, 192, 1), (3, 5, 192, 1), (4, 5, 320, 1),
            ),
        ),
        68.4,
    ),
    _member(_mobilenet_v2("mobilenet_v2_035_144", 0.35, 144), 49.7),
    _member(_mobilenet_v2("mobilenet_v2_030_80", 0.3, 80), 39.3),
)  # fmt: skip
