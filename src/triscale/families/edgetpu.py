"""EfficientNet-EdgeTPU S, M and L (Gupta & Akin 2020, arXiv 2003.02838), networks for accelerators of small devices.

The release (https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/edgetpu) scales S by the rules
of EfficientNet. It counts the expansion of the first block from the stage's own width, not from that of the stem, so
the block has another expansion than those after it.
"""

from __future__ import annotations

import math

from triscale.families.published import PublishedNetwork
from triscale.network.channels import round_channels
from triscale.network.spec import ActivationKind, BatchNorm, FusedMBConv, Head, MBConv, Network, Stage, Stem

PAPER = "Gupta & Akin 2020, arXiv 2003.02838"

RELU = ActivationKind.RELU

#     kernel, expansion, width, repeats, stride; the first three are fused
ROWS = ((3, 4, 24, 1, 1), (3, 8, 32, 2, 2), (3, 8, 48, 4, 2), (5, 8, 96, 5, 2), (5, 8, 144, 4, 1), (5, 8, 192, 2, 2))
FUSED_STAGES = 3


def _network(name: str, width: float, depth: float, resolution: int, dropout: float) -> Network:
    stem = round_channels(32 * width)
    stages: list[Stage] = []
    for number, (kernel, expansion, channels, repeats, stride) in enumerate(ROWS):
        block: MBConv | FusedMBConv = MBConv(expansion=expansion, kernel=kernel, activation=RELU)
        if number < FUSED_STAGES:
            block = FusedMBConv(
                expansion=expansion, kernel=kernel, activation=RELU, skip="none" if number == 0 else "identity"
            )
        scaled, number_of_blocks = round_channels(channels * width), math.ceil(repeats * depth)
        if number == 0:
            first = block.replace(expansion=expansion * scaled / stem)
            stages.append(Stage(block=first, width=scaled, repeats=1))
            number_of_blocks -= 1
        if number_of_blocks:
            stages.append(Stage(block=block, width=scaled, repeats=number_of_blocks, stride=stride))
    return Network(
        name=name,
        stem=Stem(width=stem, activation=RELU),
        stages=tuple(stages),
        head=Head(width=round_channels(1280 * width), activation=RELU),
        resolution=resolution,
        dropout=dropout,
        drop_path=0.2,
        padding="same",
        norm=BatchNorm(eps=1e-3, momentum=0.01),
    )


def _member(
    size: str, width: float, depth: float, resolution: int, dropout: float, top1: float | None
) -> PublishedNetwork:
    name = f"efficientnet_edgetpu_{size}"
    return PublishedNetwork(
        name=name,
        network=_network(name, width, depth, resolution, dropout),
        depth=depth,
        width=width,
        resolution=resolution,
        top1=top1,
        source=PAPER,
    )


MEMBERS: tuple[PublishedNetwork, ...] = (
    _member("s", 1.0, 1.0, 224, 0.2, None),
    _member("m", 1.0, 1.1, 240, 0.2, None),
    _member("l", 1.2, 1.4, 300, 0.3, None),
)
