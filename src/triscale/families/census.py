"""The census: published figures of published networks compared with the exact cost of ours.

The figures are in ``census.json``, with their sources. Figures are rounded where they are published, so ours agree if
they round to the same digits. Sources count MACs by different conventions, which the comparison follows.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Literal, assert_never

from pydantic import PositiveInt

from triscale.families import get
from triscale.network.cost import Cost, cost
from triscale.network.spec import Network
from triscale.record import Record
from triscale.scaling.apply import scale_to

Convention = Literal["macs", "macs_norms_pool"]
"""``macs`` are ours. ``macs_norms_pool`` adds two operations for each value that batch norm normalizes and one for each
value that the last pool reads, as fvcore counts."""

UNITS = {"": 1.0, "M": 1e6, "G": 1e9}

FILE = Path(__file__).with_name("census.json")


class FigureSource(Record):
    """Where figures were published.

    Attributes:
        title: The publication.
        convention: How it counts MACs.
    """

    title: str
    convention: Convention


class CensusRow(Record):
    """The published figures of one network.

    Attributes:
        name: Name of the network in Triscale, or where it is only a width of one, the source's.
        network: Name of the network in Triscale that it is a width of, if it is not ``name`` itself.
        width: Width multiplier of that network.
        resolution: In pixels.
        params: Parameters, as published.
        macs: MACs, as published.
        source: Key of the source.
        differs: Why ours are other numbers; empty if they agree.
    """

    name: str
    network: str = ""
    width: float = 1.0
    resolution: PositiveInt
    params: str
    macs: str
    source: str
    differs: str = ""

    def build(self) -> Network:
        """Return the network at its resolution."""
        base = get(self.network or self.name)
        if self.width == 1:
            return base.replace(resolution=self.resolution)
        return scale_to(base, depth=1.0, width=self.width, resolution=self.resolution)


class CensusTable(Record):
    """All rows with their sources."""

    sources: dict[str, FigureSource]
    rows: tuple[CensusRow, ...]


class CensusEntry(Record):
    """A row with our figures.

    Attributes:
        row: The published figures.
        params: Our parameters.
        macs: Our MACs.
        counted: Our MACs by the convention of the source.
        agrees: Whether both figures round to those published.
    """

    row: CensusRow
    params: int
    macs: int
    counted: int
    agrees: bool


@lru_cache
def census_table() -> CensusTable:
    """Return the published figures."""
    return CensusTable.from_json(FILE.read_bytes(), source=str(FILE))


def census() -> tuple[CensusEntry, ...]:
    """Compare the exact cost of each network of the census with its published figures.

    Example:
        >>> entry = next(entry for entry in census() if entry.row.name == "regnety_200mf")
        >>> entry.params, entry.row.params, entry.agrees
        (3162996, '3.2M', True)
    """
    table = census_table()
    return tuple(_entry(row, table.sources[row.source].convention) for row in table.rows)


def rounds_to(figure: int, published: str) -> bool:
    """Return whether a figure rounds to a published one, such as ``5.3M`` or ``5288548``.

    Example:
        >>> rounds_to(5_288_548, "5.3M"), rounds_to(5_288_548, "5.2M"), rounds_to(5_288_548, "5288548")
        (True, False, True)
    """
    match = re.fullmatch(r"(\d+(?:\.(\d+))?)([MG]?)", published)
    assert match is not None, f"{published} is no figure"
    unit = UNITS[match[3]]
    half_of_last_digit = unit / 10.0 ** len(match[2] or "") / 2
    return bool(abs(figure - float(match[1]) * unit) <= half_of_last_digit * (1 + 1e-9))


def _entry(row: CensusRow, convention: Convention) -> CensusEntry:
    network = row.build()
    figures = cost(network)
    counted = _counted(network, figures, convention)
    return CensusEntry(
        row=row,
        params=figures.params,
        macs=figures.macs,
        counted=counted,
        agrees=rounds_to(figures.params, row.params) and rounds_to(counted, row.macs),
    )


def _counted(network: Network, figures: Cost, convention: Convention) -> int:
    match convention:
        case "macs":
            return figures.macs
        case "macs_norms_pool":
            last = figures.stages[-2]
            pooled = (network.head.width or last.channels) * last.side * (last.width or last.side)
            return figures.macs + 2 * (figures.macs_with_norm - figures.macs_with_bias) + pooled
        case _:
            assert_never(convention)
