"""ResNet-RS from 50 to 420 layers (Bello et al. 2021): ResNet with a deep stem, pooled shortcuts and SE.

The stem of three convolutions and the convolution that replaces the max pool (ResNet-D) are stages of their own, which
do not scale in depth. Squeeze-and-excitation comes at the end of a block, with a quarter of its output channels.
Repeats and resolutions are those of the paper's tables of the ResNet-RS family.
"""

from __future__ import annotations

from triscale.families.published import PublishedNetwork
from triscale.network.spec import ActivationKind, BatchNorm, Bottleneck, Conv, Network, SqueezeRule, Stage, Stem

PAPER = "Bello et al. 2021, arXiv 2103.07579"

BLOCK = Bottleneck(se_ratio=0.25, se_rule=SqueezeRule(of="map"), se_at="end", shortcut="pooled")


def _stem_stage(width: int, stride: int) -> Stage:
    return Stage(block=Conv(kernel=3), width=width, repeats=1, stride=stride, depth_rule="fixed")


def _network(name: str, repeats: tuple[int, ...], resolution: int) -> Network:
    return Network(
        name=name,
        stem=Stem(width=32, activation=ActivationKind.RELU),
        stages=(
            _stem_stage(32, 1),
            _stem_stage(64, 1),
            _stem_stage(64, 2),
            *(
                Stage(block=BLOCK, width=width, repeats=number, stride=stride)
                for width, number, stride in zip((256, 512, 1024, 2048), repeats, (1, 2, 2, 2), strict=True)
            ),
        ),
        resolution=resolution,
        dropout=0.25,
        padding="symmetric",
        norm=BatchNorm(eps=1e-5, momentum=0.1),
    )


def _member(layers: int, repeats: tuple[int, ...], resolution: int, top1: float | None = None) -> PublishedNetwork:
    network = _network(f"resnetrs{layers}", repeats, resolution)
    return PublishedNetwork(name=network.name, network=network, resolution=resolution, top1=top1, source=PAPER)


MEMBERS: tuple[PublishedNetwork, ...] = (
    _member(50, (3, 4, 6, 3), 160, 78.8),
    _member(101, (3, 4, 23, 3), 192),
    _member(152, (3, 8, 36, 3), 224, 82.2),
    _member(200, (3, 24, 36, 3), 256),
    _member(270, (4, 29, 53, 4), 256),
    _member(350, (4, 36, 72, 4), 288),
    _member(420, (4, 44, 87, 4), 320, 84.4),
)
