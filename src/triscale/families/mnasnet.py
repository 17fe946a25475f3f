"""MnasNet-A1 and B1 (Tan et al. 2019), found by the search method that also found EfficientNet-B0."""

from __future__ import annotations

from triscale.families.published import PublishedNetwork
from triscale.network.spec import ActivationKind, BatchNorm, Head, MBConv, Network, Stage, Stem

PAPER = "Tan et al. 2019, arXiv 1807.11626"


def _stage(expansion: int, kernel: int, se_ratio: float, width: int, repeats: int, stride: int) -> Stage:
    block = MBConv(expansion=expansion, kernel=kernel, se_ratio=se_ratio, activation=ActivationKind.RELU)
    return Stage(block=block, width=width, repeats=repeats, stride=stride)


def _network(name: str, stages: tuple[Stage, ...]) -> Network:
    return Network(
        name=name,
        stem=Stem(width=32, activation=ActivationKind.RELU),
        stages=stages,
        head=Head(width=1280, activation=ActivationKind.RELU, width_rule="fixed"),
        resolution=224,
        dropout=0.2,
        padding="symmetric",
        norm=BatchNorm(eps=1e-5, momentum=0.0003),
    )


A1 = _network(
    "mnasnet_a1",
    (
        _stage(1, 3, 0.0, 16, 1, 1),
        _stage(6, 3, 0.0, 24, 2, 2),
        _stage(3, 5, 0.25, 40, 3, 2),
        _stage(6, 3, 0.0, 80, 4, 2),
        _stage(6, 3, 0.25, 112, 2, 1),
        _stage(6, 5, 0.25, 160, 3, 2),
        _stage(6, 3, 0.0, 320, 1, 1),
    ),
)

B1 = _network(
    "mnasnet_b1",
    (
        _stage(1, 3, 0.0, 16, 1, 1),
        _stage(3, 3, 0.0, 24, 3, 2),
        _stage(3, 5, 0.0, 40, 3, 2),
        _stage(6, 5, 0.0, 80, 3, 2),
        _stage(6, 3, 0.0, 96, 2, 1),
        _stage(6, 5, 0.0, 192, 4, 2),
        _stage(6, 3, 0.0, 320, 1, 1),
    ),
)

MEMBERS: tuple[PublishedNetwork, ...] = (
    PublishedNetwork(name="mnasnet_a1", network=A1, resolution=224, top1=75.2, source=PAPER),
    PublishedNetwork(name="mnasnet_b1", network=B1, resolution=224, top1=74.5, source=PAPER),
)
