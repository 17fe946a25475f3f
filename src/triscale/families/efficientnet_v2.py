"""EfficientNetV2-B0 to B3, S, M, L and XL (Tan & Le 2021).

The stages are those of Table 4 of the paper for S, and of the released configurations for the others
(https://github.com/google/automl/blob/master/efficientnetv2/effnetv2_configs.py). S to XL do not follow from the base
by one law: later stages grow more than earlier ones. B1 to B3 scale the base as EfficientNet-B1 to B3 do, but widths
are rounded to the nearest multiple of 8 without the limit on what that loses, so the first stage of B3 has 16 channels
instead of 24.
"""

from __future__ import annotations

import math

from triscale.families.published import PublishedNetwork
from triscale.network.spec import BatchNorm, FusedMBConv, Head, MBConv, Network, Stage, Stem

PAPER = "Tan & Le 2021, arXiv 2104.00298"

Row = tuple[int, int, int]
"""Expansion, width and repeats of a stage."""

STRIDES = (1, 2, 2, 2, 1, 2, 1)
FUSED_STAGES = 3
"""The first stages have fused blocks without squeeze-and-excitation."""

BASE: tuple[Row, ...] = ((1, 16, 1), (4, 32, 2), (4, 48, 2), (4, 96, 3), (6, 112, 5), (6, 192, 8))
S: tuple[Row, ...] = ((1, 24, 2), (4, 48, 4), (4, 64, 4), (4, 128, 6), (6, 160, 9), (6, 256, 15))
M: tuple[Row, ...] = ((1, 24, 3), (4, 48, 5), (4, 80, 5), (4, 160, 7), (6, 176, 14), (6, 304, 18), (6, 512, 5))
L: tuple[Row, ...] = ((1, 32, 4), (4, 64, 7), (4, 96, 7), (4, 192, 10), (6, 224, 19), (6, 384, 25), (6, 640, 7))
XL: tuple[Row, ...] = ((1, 32, 4), (4, 64, 8), (4, 96, 8), (4, 192, 16), (6, 256, 24), (6, 512, 32), (6, 640, 8))


def _stage(number: int, row: Row) -> Stage:
    expansion, width, repeats = row
    block = FusedMBConv(expansion=expansion) if number < FUSED_STAGES else MBConv(expansion=expansion, se_ratio=0.25)
    return Stage(block=block, width=width, repeats=repeats, stride=STRIDES[number])


def _network(name: str, rows: tuple[Row, ...], stem: int, resolution: int, dropout: float, head: int = 1280) -> Network:
    return Network(
        name=name,
        stem=Stem(width=stem),
        stages=tuple(_stage(number, row) for number, row in enumerate(rows)),
        head=Head(width=head),
        resolution=resolution,
        dropout=dropout,
        drop_path=0.2,
        padding="same",
        norm=BatchNorm(eps=1e-3, momentum=0.1),
    )


def _nearest(width: float) -> int:
    return int(width + 4) // 8 * 8


def _scaled(name: str, width: float, depth: float, resolution: int, dropout: float) -> Network:
    """Scale the base with the rounding of the released code, which is not that of EfficientNet."""
    rows = tuple(
        (expansion, _nearest(channels * width), math.ceil(repeats * depth)) for expansion, channels, repeats in BASE
    )
    return _network(name, rows, _nearest(32 * width), resolution, dropout, _nearest(1280 * width))


def _member(network: Network, top1: float | None, width: float = 1.0, depth: float = 1.0) -> PublishedNetwork:
    return PublishedNetwork(
        name=network.name,
        network=network,
        depth=depth,
        width=width,
        resolution=network.resolution,
        top1=top1,
        source=PAPER,
    )


def _of_base(name: str, width: float, depth: float, resolution: int, dropout: float, top1: float) -> PublishedNetwork:
    return _member(_scaled(name, width, depth, resolution, dropout), top1, width, depth)


#                             width depth pixels dropout top-1 (released configurations)
MEMBERS: tuple[PublishedNetwork, ...] = (
    _of_base("efficientnetv2_b0", 1.0, 1.0, 224, 0.2, 78.7),
    _of_base("efficientnetv2_b1", 1.0, 1.1, 240, 0.2, 79.8),
    _of_base("efficientnetv2_b2", 1.1, 1.2, 260, 0.3, 80.5),
    _of_base("efficientnetv2_b3", 1.2, 1.4, 300, 0.3, 82.1),
    _member(_network("efficientnetv2_s", S, 24, 384, 0.2), 83.9),
    _member(_network("efficientnetv2_m", M, 24, 480, 0.3), 85.1),
    _member(_network("efficientnetv2_l", L, 32, 480, 0.4), 85.7),
    _member(_network("efficientnetv2_xl", XL, 32, 512, 0.4), None),
)
