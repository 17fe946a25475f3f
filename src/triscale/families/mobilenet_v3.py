"""MobileNetV3 large and small with their width multipliers (Howard et al. 2019, Tables 1 and 2)."""

from __future__ import annotations

from triscale.families.published import PublishedNetwork
from triscale.network.spec import ActivationKind, BatchNorm, Head, MBConv, Network, SqueezeRule, Stage, Stem
from triscale.scaling.apply import scale_to

PAPER = "Howard et al. 2019, arXiv 1905.02244"

SE = SqueezeRule(of="map", multiple=8, activation=ActivationKind.RELU, gate=ActivationKind.HARD_SIGMOID)
"""A quarter of the expanded channels, rounded to a multiple of 8, with ReLU and hard sigmoid (section 5.3)."""

RE, HS = ActivationKind.RELU, ActivationKind.HARD_SWISH

Row = tuple[int, float, int, bool, ActivationKind, int, int]
"""Kernel, expansion, width, squeeze-and-excitation, activation, repeats and stride.

The paper gives expanded channels; blocks of equal expansion are one stage.
"""

LARGE: tuple[Row, ...] = (
    (3, 1, 16, False, RE, 1, 1),
    (3, 4, 24, False, RE, 1, 2),
    (3, 3, 24, False, RE, 1, 1),
    (5, 3, 40, True, RE, 3, 2),
    (3, 6, 80, False, HS, 1, 2),
    (3, 2.5, 80, False, HS, 1, 1),
    (3, 2.3, 80, False, HS, 2, 1),
    (3, 6, 112, True, HS, 2, 1),
    (5, 6, 160, True, HS, 3, 2),
)
SMALL: tuple[Row, ...] = (
    (3, 1, 16, True, RE, 1, 2),
    (3, 4.5, 24, False, RE, 1, 2),
    (3, 3.67, 24, False, RE, 1, 1),
    (5, 4, 40, True, HS, 1, 2),
    (5, 6, 40, True, HS, 2, 1),
    (5, 3, 48, True, HS, 2, 1),
    (5, 6, 96, True, HS, 3, 2),
)


def _stage(row: Row) -> Stage:
    kernel, expansion, width, has_se, activation, repeats, stride = row
    block = MBConv(
        expansion=expansion,
        kernel=kernel,
        se_ratio=0.25 if has_se else 0.0,
        se_rule=SE if has_se else None,
        activation=activation,
    )
    return Stage(block=block, width=width, repeats=repeats, stride=stride)


def _network(name: str, rows: tuple[Row, ...], head: int, wide: int) -> Network:
    return Network(
        name=name,
        stem=Stem(width=16, activation=HS),
        stages=tuple(map(_stage, rows)),
        head=Head(width=head, activation=HS, wide=wide),
        resolution=224,
        dropout=0.2,
        padding="same",
        norm=BatchNorm(eps=1e-3, momentum=0.01),
    )


V3_LARGE = _network("mobilenet_v3_large", LARGE, 960, 1280)
V3_SMALL = _network("mobilenet_v3_small", SMALL, 576, 1024)


def _member(baseline: Network, width: float, top1: float) -> PublishedNetwork:
    name = baseline.name if width == 1 else f"{baseline.name}_{round(width * 100):03d}"
    network = scale_to(baseline, depth=1.0, width=width, resolution=224).replace(name=name)
    return PublishedNetwork(name=name, network=network, width=width, resolution=224, top1=top1, source=PAPER)


MEMBERS: tuple[PublishedNetwork, ...] = (
    _member(V3_LARGE, 1.0, 75.2),
    _member(V3_LARGE, 0.75, 73.3),
    _member(V3_SMALL, 1.0, 67.4),
    _member(V3_SMALL, 0.75, 65.4),
)
