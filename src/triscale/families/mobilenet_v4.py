"""MobileNetV4 with convolutions only: small, medium and large (Qin et al. 2024, tables of the appendix)."""

from __future__ import annotations

from itertools import groupby

from triscale.families.published import PublishedNetwork
from triscale.network.spec import (
    ActivationKind,
    BatchNorm,
    Block,
    Conv,
    FusedMBConv,
    Head,
    Network,
    Stage,
    Stem,
    UniversalBottleneck,
)

PAPER = "Qin et al. 2024, arXiv 2404.10518"


def _universal(start: int, kernel: int, expansion: int) -> UniversalBottleneck:
    """Return a block with its kernels, where 0 means that there is none."""
    return UniversalBottleneck(start=start or None, kernel=kernel or None, expansion=expansion)


def _stages(first_stride: int, width: int, blocks: str) -> list[Stage]:
    """Return the stages of a row of blocks, each written as its two kernels and its expansion: ``53x4``."""
    stages: list[Stage] = []
    for text, equal in groupby(blocks.split()):
        kernels, _, expansion = text.partition("x")
        block = _universal(int(kernels[0]), int(kernels[1]), int(expansion))
        stages.append(Stage(block=block, width=width, repeats=len(list(equal)), stride=1))
    # Equal blocks are one stage, of which only the first repeat has the stride.
    stages[0] = stages[0].replace(stride=first_stride)
    return stages


def _convolution(kernel: int, width: int, stride: int = 1) -> Stage:
    return Stage(block=Conv(kernel=kernel), width=width, repeats=1, stride=stride)


def _fused(width: int) -> Stage:
    block: Block = FusedMBConv(expansion=4, activation=ActivationKind.RELU)
    return Stage(block=block, width=width, repeats=1, stride=2)


def _network(name: str, stem: int, stages: list[Stage], resolution: int) -> Network:
    return Network(
        name=name,
        stem=Stem(width=stem, activation=ActivationKind.RELU),
        stages=tuple(stages),
        head=Head(width=960, activation=ActivationKind.RELU, wide=1280, wide_norm=True, width_rule="fixed"),
        resolution=resolution,
        dropout=0.2,
        padding="symmetric",
        norm=BatchNorm(eps=1e-5, momentum=0.1),
    )


CONV_SMALL = _network(
    "mobilenet_v4_conv_small",
    32,
    [
        _convolution(3, 32, 2),
        _convolution(1, 32),
        _convolution(3, 96, 2),
        _convolution(1, 64),
        *_stages(2, 96, "55x3 03x2 03x2 03x2 03x2 30x4"),
        *_stages(2, 128, "33x6 55x4 05x4 05x3 03x4 03x4"),
    ],
    224,
)
CONV_MEDIUM = _network(
    "mobilenet_v4_conv_medium",
    32,
    [
        _fused(48),
        *_stages(2, 80, "35x4 33x2"),
        *_stages(2, 160, "35x6 33x4 33x4 35x4 33x4 30x4 00x2 30x4"),
        *_stages(2, 256, "55x6 55x4 35x4 35x4 00x4 30x4 35x2 55x4 00x4 00x4 50x2"),
    ],
    256,
)
CONV_LARGE = _network(
    "mobilenet_v4_conv_large",
    24,
    [
        _fused(48),
        *_stages(2, 96, "35x4 33x4"),
        *_stages(2, 192, "35x4 33x4 33x4 33x4 35x4 53x4 53x4 53x4 53x4 53x4 30x4"),
        *_stages(2, 512, "55x4 55x4 55x4 55x4 50x4 53x4 50x4 50x4 53x4 55x4 50x4 50x4 50x4"),
    ],
    384,
)

MEMBERS: tuple[PublishedNetwork, ...] = tuple(
    PublishedNetwork(name=network.name, network=network, resolution=network.resolution, top1=top1, source=PAPER)
    for network, top1 in ((CONV_SMALL, 73.8), (CONV_MEDIUM, 79.9), (CONV_LARGE, 82.9))
)
