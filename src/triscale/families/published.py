"""What a row of a family's table states, beside the network itself."""

from __future__ import annotations

from pydantic import PositiveInt

from triscale.network.spec import Network
from triscale.record import Record


class PublishedFigures(Record):
    """A published network: its row in the family's table and the figures of its authors.

    ``depth``, ``width`` and ``resolution`` are what the authors' table gives relative to the family's baseline
    (resolution in pixels). Accuracies are ImageNet top-1 in percent, as the source states them.
    """

    name: str
    network: Network
    depth: float = 1.0
    width: float = 1.0
    resolution: PositiveInt
    top1: float | None = None
    source: str
