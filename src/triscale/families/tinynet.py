"""TinyNet A to E (Han et al. 2020): EfficientNet-B0 shrunk in width, depth and resolution.

Its rounding differs from EfficientNet's: repeats are rounded to the nearest number, the stem keeps its width, and the
head is never narrower than that of B0.
"""

from __future__ import annotations

from triscale.families.efficientnet import B0
from triscale.families.published import PublishedNetwork
from triscale.network.spec import BatchNorm
from triscale.scaling.apply import scale_to

PAPER = "Han et al. 2020, arXiv 2010.14819"

BASELINE = B0.replace(
    stem=B0.stem.replace(width_rule="fixed"),
    head=B0.head.replace(width_rule="never_narrower"),
    padding="symmetric",
    norm=BatchNorm(eps=1e-5, momentum=0.1),
)


def _member(size: str, width: float, depth: float, resolution: int, top1: float) -> PublishedNetwork:
    name = f"tinynet_{size}"
    scaled = scale_to(BASELINE, depth=1.0, width=width, resolution=resolution)
    stages = tuple(stage.replace(repeats=max(1, round(stage.repeats * depth))) for stage in scaled.stages)
    return PublishedNetwork(
        name=name,
        network=scaled.replace(name=name, stages=stages),
        depth=depth,
        width=width,
        resolution=resolution,
        top1=top1,
        source=PAPER,
    )


MEMBERS: tuple[PublishedNetwork, ...] = (
    _member("a", 1.0, 1.2, 192, 76.8),
    _member("b", 0.75, 1.1, 188, 75.0),
    _member("c", 0.54, 0.85, 184, 71.2),
    _member("d", 0.54, 0.695, 152, 67.0),
    _member("e", 0.51, 0.6, 106, 59.9),
)
