"""The catalog of published weights, one table per source. No torch."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from triscale.errors import WeightsError, nearest
from triscale.network.contract import IMAGENET_MEAN, IMAGENET_STD, NON_COMMERCIAL, Interpolation, Preprocessing, Values
from triscale.record import Record
from triscale.weights.architecture import SourceName
from triscale.weights.contract import Accuracy, Digest, WeightsContract
from triscale.weights.sources import SOURCES, get_architecture

Normalization = Literal["imagenet", "half", "lite", "unit"]

NORMALIZATIONS: dict[Normalization, tuple[Values, Values]] = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "lite": ((127 / 255, 127 / 255, 127 / 255), (128 / 255, 128 / 255, 128 / 255)),
}
"""Mean and standard deviation, for values from 0 to 1."""

IMAGENET_CLASSES = 1000

_FOLDER = Path(__file__).parent


class CatalogRow(Record):
    """One row of a source's table.

    Attributes:
        name: The source's name of the weights; the text before the first dot is the architecture.
        resolution: Side of the input in pixels.
        crop: Side of the center crop relative to the shorter side of the image.
        interpolation: Filter for resizing.
        normalization: Key of :data:`NORMALIZATIONS`.
        classes: Number of classes.
        license: SPDX identifier in lower case.
        top1: Published top-1 accuracy in percent.
        top5: Published top-5 accuracy in percent.
        sha256: SHA-256 of the file, or its first digits.
        hub: Repository on the Hugging Face Hub.
        url: URL of the file.
        default: Whether the name of the architecture alone refers to these weights.
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
    url: str | None = None
    default: bool = False


class CatalogTable(Record):
    """The published weights of a source.

    Attributes:
        read_from: Where the facts are from.
        protocol: How the accuracies were measured.
        rows: One row per file.
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
    """Return the names of the 1000 ImageNet classes in the usual order, with torchvision's spelling."""
    return tuple((_FOLDER / "imagenet.txt").read_text().splitlines())


@lru_cache
def imagenet_wnids() -> tuple[str, ...]:
    """Return the WordNet identifiers of the ImageNet classes, which name their folders, in the order of the classes.

    Example:
        >>> dict(zip(imagenet_wnids(), imagenet_classes()))["n01440764"]
        'tench'
    """
    return tuple((_FOLDER / "imagenet_wnids.txt").read_text().splitlines())


def names(source: SourceName | None = None) -> tuple[str, ...]:
    """Return the names of all published weights, ordered by source.

    Args:
        source: Only those of this source.

    Example:
        >>> names("torchvision")[0]
        'torchvision/efficientnet_b0.IMAGENET1K_V1'
    """
    chosen = SOURCES if source is None else (source,)
    return tuple(f"{name}/{row.name}" for name in chosen for row in table(name).rows)


def published(name: str) -> WeightsContract:
    """Return the metadata of published weights.

    Args:
        name: ``SOURCE/WEIGHTS``, or ``SOURCE/ARCHITECTURE`` for its default weights. The source can be left out if only
            one has that name. A prefix ``hf-hub:`` or ``hf_hub:`` is ignored.

    Raises:
        WeightsError: The name is unknown or ambiguous; the message suggests the nearest.

    Example:
        >>> published("torchvision/resnet18").accuracy.top1
        69.758
    """
    requested = name.removeprefix("hf-hub:").removeprefix("hf_hub:")
    source, _, bare = requested.rpartition("/")
    matches = [
        (source_name, row)
        for source_name in SOURCES
        if source in (source_name, "")
        for row in table(source_name).rows
        if row.name == bare or (row.default and row.name.partition(".")[0] == bare)
    ]
    if len(matches) == 1:
        return _weights(*matches[0])
    if matches:
        choices = ", ".join(f"{source_name}/{row.name}" for source_name, row in matches)
        raise WeightsError(f'"{name}" is ambiguous; give one of {choices}')
    raise WeightsError(f'there are no published weights "{name}"{_hint(requested)}')


def best_for(name: str) -> WeightsContract:
    """Return the default ImageNet-1k weights of a network.

    These are the weights with the highest published top-1 accuracy, of those that may be used commercially and that are
    one file for PyTorch; only if there are none, others.

    Args:
        name: Name of a published network, such as ``efficientnet_b0``.

    Raises:
        WeightsError: Nobody has published weights of the network that the catalog lists.

    Example:
        >>> best_for("resnet50").title
        'timm/resnet50.a1_in1k'
    """
    found = all_for(name)
    if not found:
        raise WeightsError(
            f'there are no published weights of "{name}"; triscale weights list shows those of other networks'
        )
    return found[0]


def all_for(name: str) -> tuple[WeightsContract, ...]:
    """Return all ImageNet-1k weights of a network with a published accuracy, in the order of :func:`best_for`.

    Args:
        name: Name of a published network, such as ``efficientnet_b0``.

    Example:
        >>> [weights.title for weights in all_for("mobilenet_v2")][:2]
        ['timm/mobilenetv2_100.ra_in1k', 'torchvision/mobilenet_v2.IMAGENET1K_V2']
    """
    matches = []
    for source in SOURCES:
        for row in table(source).rows:
            architecture = get_architecture(source, row.name)
            if (architecture.base, architecture.is_base, row.classes) == (name, True, IMAGENET_CLASSES) and row.top1:
                free = not (row.license or "").startswith(NON_COMMERCIAL)
                matches.append(((free, source in ("torchvision", "timm"), row.top1), source, row))
    ordered = sorted(matches, key=lambda match: match[0], reverse=True)
    return tuple(_weights(source, row) for _, source, row in ordered)


def _hint(requested: str) -> str:
    full_names = names()
    short = {row.name: f"{source}/{row.name}" for source in SOURCES for row in table(source).rows}
    return (
        nearest(requested, full_names)
        or nearest(requested.rpartition("/")[2], short)
        or "; triscale weights list shows the names; give a file by its path"
    )


def _weights(source: SourceName, row: CatalogRow) -> WeightsContract:
    architecture = get_architecture(source, row.name)
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
        url=row.url,
        hub=row.hub,
    )
