"""All published weights that Triscale knows: tables with what is known of each, one file a source. No torch."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from triscale.errors import WeightsError, nearest
from triscale.network.contract import IMAGENET_MEAN, IMAGENET_STD, Interpolation, Preprocessing, Triple
from triscale.record import Record
from triscale.weights.architecture import SourceName
from triscale.weights.contract import Accuracy, Digest, WeightsContract
from triscale.weights.sources import SOURCES, architecture_named

Normalization = Literal["imagenet", "half", "lite"]

NORMALIZATIONS: dict[Normalization, tuple[Triple, Triple]] = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "lite": ((127 / 255, 127 / 255, 127 / 255), (128 / 255, 128 / 255, 128 / 255)),
}
"""Mean and standard deviation of values in 0..1."""

IMAGENET_CLASSES = 1000

_FOLDER = Path(__file__).parent


class CatalogRow(Record):
    """One line of a source's table; the text before the first dot of ``name`` is the architecture.

    Attributes:
        default: these are meant where only the architecture is named.
    """

    name: str
    resolution: int
    crop: Annotated[float, Field(gt=0, le=1)]
    interpolation: Interpolation
    normalization: Normalization
    classes: int
    license: str | None = None
    top1: float | None = None
    top5: float | None = None
    sha256: Digest | None = None
    hub: str | None = None
    address: str | None = None
    default: bool = False


class CatalogTable(Record):
    """The weights of a source.

    Attributes:
        read_from: where the facts stand.
        protocol: how the accuracies were taken.
    """

    read_from: str
    protocol: str
    rows: tuple[CatalogRow, ...]


@lru_cache
def table(source: SourceName) -> CatalogTable:
    """Return the table of a source."""
    return CatalogTable.parse(json.loads((_FOLDER / f"{source}.json").read_text()), f"the catalog of {source}")


@lru_cache
def imagenet_classes() -> tuple[str, ...]:
    """Return the names of the 1000 classes of ImageNet in their usual order, as torchvision writes them."""
    return tuple((_FOLDER / "imagenet.txt").read_text().splitlines())


def names(source: SourceName | None = None) -> tuple[str, ...]:
    """Return the names of all published weights, such as ``timm/tf_efficientnet_b0.ns_jft_in1k``, source by source."""
    chosen = SOURCES if source is None else (source,)
    return tuple(f"{name}/{row.name}" for name in chosen for row in table(name).rows)


def published(name: str) -> WeightsContract:
    """Return the contract of published weights.

    Args:
        name: ``SOURCE/WEIGHTS``; ``SOURCE/ARCHITECTURE`` means the default ones. The source may be left out where only
            one has that name. A prefix ``hf-hub:`` or ``hf_hub:`` is passed over.

    Raises:
        WeightsError: no such name, or several; the message lists the nearest.
    """
    asked = name.removeprefix("hf-hub:").removeprefix("hf_hub:")
    source, _, bare = asked.rpartition("/")
    found = [
        (known, row)
        for known in SOURCES
        if source in (known, "")
        for row in table(known).rows
        if row.name == bare or (row.default and row.name.partition(".")[0] == bare)
    ]
    if len(found) == 1:
        return _weights(*found[0])
    if found:
        choices = ", ".join(f"{known}/{row.name}" for known, row in found)
        raise WeightsError(f'"{name}" may mean {choices}; say which')
    raise WeightsError(f'there are no published weights "{name}"{_hint(asked)}')


def _hint(asked: str) -> str:
    known = names()
    short = {row.name: f"{source}/{row.name}" for source in SOURCES for row in table(source).rows}
    return (
        nearest(asked, known)
        or nearest(asked.rpartition("/")[2], short)
        or "; triscale weights list shows the names, and a file is given by its path"
    )


def _weights(source: SourceName, row: CatalogRow) -> WeightsContract:
    architecture = architecture_named(source, row.name)
    mean, std = NORMALIZATIONS[row.normalization]
    accuracy: dict[str, Any] | None = None
    if row.top1 is not None:
        accuracy = {"top1": row.top1, "top5": row.top5, "protocol": table(source).protocol}
    return WeightsContract(
        source=source,
        name=row.name,
        architecture=architecture.name,
        network=architecture.network.replace(resolution=row.resolution, classes=row.classes),
        preprocessing=Preprocessing(
            resolution=row.resolution, crop=row.crop, interpolation=row.interpolation, mean=mean, std=std
        ),
        classes=imagenet_classes() if row.classes == IMAGENET_CLASSES else None,
        license=row.license,
        accuracy=None if accuracy is None else Accuracy(**accuracy),
        sha256=row.sha256,
        address=row.address,
        hub=row.hub,
    )
