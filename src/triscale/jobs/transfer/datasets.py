"""Data sets of a transfer table: local copies of the paper's eight data sets, and custom data sets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from triscale.data.sources.local import absolute
from triscale.data.sources.named import NAMED, Metric, absolute_named
from triscale.errors import DataError, nearest
from triscale.places import cache_folder
from triscale.record import Record


class PublishedAccuracy(NamedTuple):
    """The best accuracy in the paper on a data set in percent, and the network that reached it."""

    accuracy: float
    network: str


PAPER: dict[str, PublishedAccuracy] = {
    "cifar10": PublishedAccuracy(98.9, "EfficientNet-B7"),
    "cifar100": PublishedAccuracy(91.7, "EfficientNet-B7"),
    "birdsnap": PublishedAccuracy(84.3, "EfficientNet-B7"),
    "stanford_cars": PublishedAccuracy(94.7, "EfficientNet-B7"),
    "flowers102": PublishedAccuracy(98.8, "EfficientNet-B7"),
    "fgvc_aircraft": PublishedAccuracy(92.9, "EfficientNet-B7"),
    "oxford_iiit_pet": PublishedAccuracy(95.4, "EfficientNet-B6"),
    "food101": PublishedAccuracy(93.0, "EfficientNet-B7"),
}
"""Tan & Le 2019, Table 5, in its order: the eight data sets, and the best EfficientNet on each."""

_TORCHVISION_FOLDERS: dict[str, str] = {
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "stanford_cars": "stanford_cars",
    "flowers102": "flowers-102",
    "fgvc_aircraft": "fgvc-aircraft-2013b",
    "oxford_iiit_pet": "oxford-iiit-pet",
    "food101": "food-101",
}
"""Names of the folders that torchvision's data sets create in their root."""


class TransferDataset(Record):
    """A data set with its name and metric in the table."""

    name: str
    title: str
    images: str
    metric: Metric = "top1"


class MissingDataset(Record):
    """A data set of the paper without a local copy: the folder where it is expected, and its source."""

    name: str
    title: str
    folder: str
    source: str


def find_sets(
    specs: Sequence[str], data: Path | None
) -> tuple[tuple[TransferDataset, ...], tuple[MissingDataset, ...]]:
    """Return the data sets with a local copy, in the requested order, and those without; nothing is downloaded.

    Args:
        specs: Names of the paper's data sets; ``NAME:FOLDER`` for a copy in the original layout in another folder;
            ``NAME=IMAGES`` for a custom data set in any layout that training supports. Empty for all eight.
        data: Folder of the copies, each in a folder with the name of the data set or the name that torchvision uses;
            the cache folder is searched too.

    Raises:
        DataError: A name is unknown or given twice, a folder does not exist, or no data set has a local copy.
    """
    if data is not None and not data.is_dir():
        raise DataError(f"the folder {data} does not exist; give a folder with copies such as {data}/flowers102")
    available: list[TransferDataset] = []
    missing: list[MissingDataset] = []
    for spec in specs or tuple(PAPER):
        dataset = _find(spec, data)
        if dataset.name in {one.name for one in available} | {one.name for one in missing}:
            raise DataError(f"the data set {dataset.name} is given twice; give each data set once")
        if isinstance(dataset, TransferDataset):
            available.append(dataset)
        else:
            missing.append(dataset)
    if not available:
        copies = "; ".join(f"{one.title} from {one.source} to {one.folder}" for one in missing)
        raise DataError(
            f"there is no local copy of any data set; copy {copies}; or give a custom data set as NAME=FOLDER"
        )
    return tuple(available), tuple(missing)


def _find(spec: str, data: Path | None) -> TransferDataset | MissingDataset:
    name, equals, images = spec.partition("=")
    if equals:
        if not re.fullmatch(r"\w[\w.-]*", name) or not images:
            raise DataError(f'"{spec}" is not a data set; expected NAME=FOLDER with letters, digits, - and _ in NAME')
        title, metric = (NAMED[name].title, NAMED[name].metric) if name in PAPER else (name, "top1")
        return TransferDataset(name=name, title=title, images=absolute(images), metric=metric)
    name, colon, folder = spec.partition(":")
    if name not in PAPER:
        hint = nearest(name, PAPER) or f"; the data sets are {', '.join(PAPER)}"
        raise DataError(f'there is no transfer data set "{name}"{hint}; or give your own images as NAME=FOLDER')
    known = NAMED[name]
    folders = [Path(folder)] if colon else _folders(name, data)
    existing = next((candidate for candidate in folders if candidate.is_dir()), None)
    if existing is None and not colon:
        return MissingDataset(name=name, title=known.title, folder=str(folders[0]), source=known.source)
    images = absolute_named(f"{name}:{existing or folder}")
    return TransferDataset(name=name, title=known.title, images=images, metric=known.metric)


def _folders(name: str, data: Path | None) -> list[Path]:
    """Return the folders that may hold a copy of a data set, in the order in which they are searched."""
    names = [name, *([_TORCHVISION_FOLDERS[name]] if name in _TORCHVISION_FOLDERS else [])]
    return [*([] if data is None else [data / one for one in names]), cache_folder() / "sets" / name]
