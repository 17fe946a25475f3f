"""The rows of the families' tables."""

from __future__ import annotations

from pydantic import PositiveInt

from triscale.network.spec import Network
from triscale.record import Record


class PublishedNetwork(Record):
    """A published network with the figures of its authors.

    Attributes:
        name: The name in Triscale.
        network: The network.
        depth: Depth multiplier relative to the baseline of the family.
        width: Width multiplier relative to the baseline of the family.
        resolution: In pixels.
        top1: ImageNet top-1 accuracy in percent.
        source: The publication.

    Example:
        >>> from triscale.families import published
        >>> row = published("efficientnet_b3")
        >>> row.depth, row.width, row.resolution
        (1.4, 1.2, 300)
    """

    name: str
    network: Network
    depth: float = 1.0
    width: float = 1.0
    resolution: PositiveInt
    top1: float | None = None
    source: str
