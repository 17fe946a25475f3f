"""EfficientNet-B0 to B8 and L2 (Tan & Le 2019; Xie et al. 2020) and EfficientNet-Lite0 to 4 (Liu 2020).

The multipliers are those of the authors' tables, which do not follow the law exactly, see
:mod:`triscale.families.implied`.
"""

from __future__ import annotations

from triscale.families.lite import lite
from triscale.families.published import PublishedNetwork
from triscale.network.spec import BatchNorm, Head, MBConv, Network, Stage, Stem
from triscale.scaling.apply import scale_to

PAPER = "Tan & Le 2019, arXiv 1905.11946"
LITE_SOURCE = "EfficientNet-Lite release notes, 2020"

B0 = Network(
    name="efficientnet_b0",
    stem=Stem(width=32),
    stages=(
        Stage(block=MBConv(expansion=1, kernel=3, se_ratio=0.25), width=16, repeats=1, stride=1),
        Stage(block=MBConv(expansion=6, kernel=3, se_ratio=0.25), width=24, repeats=2, stride=2),
        Stage(block=MBConv(expansion=6, kernel=5, se_ratio=0.25), width=40, repeats=2, stride=2),
        Stage(block=MBConv(expansion=6, kernel=3, se_ratio=0.25), width=80, repeats=3, stride=2),
        Stage(block=MBConv(expansion=6, kernel=5, se_ratio=0.25), width=112, repeats=3, stride=1),
        Stage(block=MBConv(expansion=6, kernel=5, se_ratio=0.25), width=192, repeats=4, stride=2),
        Stage(block=MBConv(expansion=6, kernel=3, se_ratio=0.25), width=320, repeats=1, stride=1),
    ),
    head=Head(width=1280),
    resolution=224,
    dropout=0.2,
    drop_path=0.2,
    padding="same",
    norm=BatchNorm(eps=1e-3, momentum=0.01),
)

LITE0 = lite(B0).replace(name="efficientnet_lite0")


def _member(
    baseline: Network, name: str, width: float, depth: float, resolution: int, dropout: float, top1: float | None
) -> PublishedNetwork:
    scaled = scale_to(baseline, depth=depth, width=width, resolution=resolution)
    return PublishedNetwork(
        name=name,
        network=scaled.replace(name=name, dropout=dropout),
        depth=depth,
        width=width,
        resolution=resolution,
        top1=top1,
        source=PAPER if baseline is B0 else LITE_SOURCE,
    )


#               width depth pixels dropout top-1 (Table 2 of the paper)
MEMBERS: tuple[PublishedNetwork, ...] = (
    _member(B0, "efficientnet_b0", 1.0, 1.0, 224, 0.2, 77.1),
    _member(B0, "efficientnet_b1", 1.0, 1.1, 240, 0.2, 79.1),
    _member(B0, "efficientnet_b2", 1.1, 1.2, 260, 0.3, 80.1),
    _member(B0, "efficientnet_b3", 1.2, 1.4, 300, 0.3, 81.6),
    _member(B0, "efficientnet_b4", 1.4, 1.8, 380, 0.4, 82.9),
    _member(B0, "efficientnet_b5", 1.6, 2.2, 456, 0.4, 83.6),
    _member(B0, "efficientnet_b6", 1.8, 2.6, 528, 0.5, 84.0),
    _member(B0, "efficientnet_b7", 2.0, 3.1, 600, 0.5, 84.3),
    _member(B0, "efficientnet_b8", 2.2, 3.6, 672, 0.5, None),
    _member(B0, "efficientnet_l2", 4.3, 5.3, 800, 0.5, None),
)

LITE_MEMBERS: tuple[PublishedNetwork, ...] = (
    _member(LITE0, "efficientnet_lite0", 1.0, 1.0, 224, 0.2, None),
    _member(LITE0, "efficientnet_lite1", 1.0, 1.1, 240, 0.2, None),
    _member(LITE0, "efficientnet_lite2", 1.1, 1.2, 260, 0.3, None),
    _member(LITE0, "efficientnet_lite3", 1.2, 1.4, 280, 0.3, None),
    _member(LITE0, "efficientnet_lite4", 1.4, 1.8, 300, 0.3, None),
)
