"""Tables 2, 3 and 7 of the EfficientNet paper, and the exact cost of their networks.

Source of all rows: Tan & Le 2019, arXiv 1905.11946v5. The paper writes multiply-accumulates as FLOPS, "B" for 10^9.
"""

from __future__ import annotations

import math
from typing import ClassVar

from triscale.families import get, published
from triscale.network.cost import count_network
from triscale.network.spec import Network
from triscale.record import Record
from triscale.scaling.apply import resolution_multiple, scale_to
from triscale.scaling.rounding import round_resolution

PAPER = "Tan & Le 2019, arXiv 1905.11946v5"

MARGIN = 0.05
"""Relative difference that counting conventions explain; in Table 2 up to 5% (B4: 4.2B stated, 4.39G counted)."""


class PublishedRow(Record):
    """One row of a table as published. A multiplier is None if the paper does not state it.

    ``assumed`` are multipliers that give the stated cost, for rows without multipliers.
    """

    table: int
    baseline: str
    depth: float | None = None
    width: float | None = None
    resolution: float | None = None
    assumed: tuple[float, float, float] | None = None
    macs: str
    params: str | None = None
    top1: float
    top5: float | None = None

    @property
    def label(self) -> str:
        """A short label of the row."""
        if self.assumed is not None:
            return f"{self.baseline} compound"
        stated = {"d": self.depth, "w": self.width, "r": self.resolution}
        words = [f"{name}={value:g}" for name, value in stated.items() if value not in (None, 1)]
        return " ".join([self.baseline, *words])


class CheckedRow(Record):
    """A row with the exact cost of its network, and whether that is consistent with the stated cost.

    A resolution that would be snapped is counted both as stated and snapped; the count nearer to the stated cost is
    kept. ``excess`` is the relative difference between that count and the stated cost.
    """

    kind_name: ClassVar[str] = "published_row"

    row: PublishedRow
    pixels: int
    macs: int
    params: int
    excess: float
    possible: bool


#    top-1  top-5  params  FLOPS
_FIGURES = (
    (77.1, 93.3, "5.3M", "0.39B"),
    (79.1, 94.4, "7.8M", "0.70B"),
    (80.1, 94.9, "9.2M", "1.0B"),
    (81.6, 95.7, "12M", "1.8B"),
    (82.9, 96.4, "19M", "4.2B"),
    (83.6, 96.7, "30M", "9.9B"),
    (84.0, 96.8, "43M", "19B"),
    (84.3, 97.0, "66M", "37B"),
)

TABLE_2: tuple[PublishedRow, ...] = tuple(
    PublishedRow(table=2, baseline=f"efficientnet_b{number}", top1=top1, top5=top5, params=params, macs=macs)
    for number, (top1, top5, params, macs) in enumerate(_FIGURES)
)


def _row(
    table: int, baseline: str, scale: tuple[float, float, float] | None, macs: str, top1: float, **assumed: object
) -> PublishedRow:
    depth, width, resolution = scale or (None, None, None)
    stated = {"depth": depth, "width": width, "resolution": resolution}
    return PublishedRow.model_validate(
        {"table": table, "baseline": baseline, "macs": macs, "top1": top1} | stated | assumed
    )


TABLE_3: tuple[PublishedRow, ...] = (
    _row(3, "mobilenet_v1", (1, 1, 1), "0.6B", 70.6),
    _row(3, "mobilenet_v1", (1, 2, 1), "2.2B", 74.2),
    _row(3, "mobilenet_v1", (1, 1, 2), "2.2B", 72.7),
    _row(3, "mobilenet_v1", (1.4, 1.2, 1.3), "2.3B", 75.6),
    _row(3, "mobilenet_v2", (1, 1, 1), "0.3B", 72.0),
    _row(3, "mobilenet_v2", (4, 1, 1), "1.2B", 76.8),
    _row(3, "mobilenet_v2", (1, 2, 1), "1.1B", 76.4),
    _row(3, "mobilenet_v2", (1, 1, 2), "1.2B", 74.8),
    _row(3, "mobilenet_v2", None, "1.3B", 77.4, assumed=(1.4, 1.2, 288 / 224)),
    _row(3, "resnet50", (1, 1, 1), "4.1B", 76.0),
    _row(3, "resnet50", (4, 1, 1), "16.2B", 78.1),
    _row(3, "resnet50", (1, 2, 1), "14.7B", 77.7),
    _row(3, "resnet50", (1, 1, 2), "16.4B", 77.5),
    _row(3, "resnet50", None, "16.7B", 78.8, assumed=(1.44, 1.21, 304 / 224)),
)

TABLE_7: tuple[PublishedRow, ...] = (
    _row(7, "efficientnet_b0", (1, 1, 1), "0.4B", 77.3),
    _row(7, "efficientnet_b0", (4, 1, 1), "1.8B", 79.0),
    _row(7, "efficientnet_b0", (1, 2, 1), "1.8B", 78.9),
    _row(7, "efficientnet_b0", (1, 1, 2), "1.9B", 79.1),
    _row(7, "efficientnet_b0", (1.4, 1.2, 1.3), "1.8B", 81.1),
)


def check_published() -> tuple[CheckedRow, ...]:
    """Check all rows of the three tables."""
    return tuple(check(row) for row in (*TABLE_2, *TABLE_3, *TABLE_7))


def check(row: PublishedRow) -> CheckedRow:
    """Count the network of a row, and check whether the count is consistent with the stated cost.

    Example:
        >>> check(TABLE_2[0]).possible
        True
    """
    stated, low, high = _range(row.macs)
    counted = [(network, count_network(network)) for network in _networks(row)]
    network, counts = min(counted, key=lambda pair: abs(pair[1].macs - stated))
    return CheckedRow(
        row=row,
        pixels=network.resolution,
        macs=counts.macs,
        params=counts.params,
        excess=counts.macs / stated - 1,
        possible=low * (1 - MARGIN) <= counts.macs <= high * (1 + MARGIN),
    )


def _networks(row: PublishedRow) -> list[Network]:
    if row.table == 2:
        return [published(row.baseline).network]
    baseline = get(row.baseline)
    depth, width, resolution = row.assumed or (row.depth or 1, row.width or 1, row.resolution or 1)
    requested = baseline.resolution * resolution
    sides = {round(requested)}
    if row.assumed is None:
        sides.add(round_resolution(requested, resolution_multiple(baseline)))
    return [scale_to(baseline, depth=depth, width=width, resolution=side) for side in sorted(sides)]


def _range(stated: str) -> tuple[float, float, float]:
    """Return a stated figure, and the lowest and highest values that round to it."""
    number, unit = float(stated[:-1]), {"M": 1e6, "B": 1e9}[stated[-1]]
    half = 0.5 * math.pow(10, -len(stated[:-1].partition(".")[2]))
    return number * unit, (number - half) * unit, (number + half) * unit
