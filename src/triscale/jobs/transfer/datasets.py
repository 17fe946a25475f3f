"""The sets of images of a transfer table: which of the paper's eight lie where, and a custom model."""

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
    """The paper's best figure on a set, in percent, by one of its networks."""

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
"""Tan & Le 2019, Table 5, in its order: the eight sets, and the best EfficientNet on each."""

_LOADED: dict[str, str] = {
    "cifar10": "cifar-10-batches-py",
    "cifar100": "cifar-100-python",
    "stanford_cars": "stanford_cars",
    "flowers102": "flowers-102",
    "fgvc_aircraft": "fgvc-aircraft-2013b",
    "oxford_iiit_pet": "oxford-iiit-pet",
    "food101": "food-101",
}
"""The folders that torchvision's loaders make in a common one."""


class TransferDataset(Record):
    """A set of images, under what name and by which metric it is reported."""

    name: str
    title: str
    images: str
    metric: Metric = "top1"


class MissingDataset(Record):
    """A set of the paper that is not here: where it was looked for, and where it comes from."""

    name: str
    title: str
    place: str
    source: str


def find_sets(
    words: Sequence[str], data: Path | None
) -> tuple[tuple[TransferDataset, ...], tuple[MissingDataset, ...]]:
    """Return the sets that are here, in the order asked for, and those that are not; nothing is fetched.

    Args:
        words: names of the paper's sets; ``NAME:FOLDER`` for a copy in its authors' layout elsewhere; ``NAME=IMAGES``
            for images in any layout that a training takes. None at all means the eight.
        data: a folder that holds copies, each in a folder of the set's name or of the name that torchvision's loader
            gives it; the cache folder is looked at too.

    Raises:
        DataError: an unknown name, one twice, no such folder, or not a single set.
    """
    if data is not None and not data.is_dir():
        raise DataError(f"there is no folder {data}; give one that holds copies of the sets, such as {data}/flowers102")
    here: list[TransferDataset] = []
    absent: list[MissingDataset] = []
    for word in words or tuple(PAPER):
        found = _find(word, data)
        if found.name in {source.name for source in here} | {missing.name for missing in absent}:
            raise DataError(f"the set {found.name} is named twice; every set is one row")
        if isinstance(found, TransferDataset):
            here.append(found)
        else:
            absent.append(found)
    if not here:
        places = "; ".join(f"{missing.title} from {missing.source} into {missing.place}" for missing in absent)
        raise DataError(f"none of the sets is here: put {places}; or give your own as NAME=FOLDER")
    return tuple(here), tuple(absent)


def _find(word: str, data: Path | None) -> TransferDataset | MissingDataset:
    name, equals, images = word.partition("=")
    if equals:
        if not re.fullmatch(r"\w[\w.-]*", name) or not images:
            raise DataError(f'"{word}" is no set; expected NAME=FOLDER with a NAME of letters, digits, - and _')
        title, metric = (NAMED[name].title, NAMED[name].metric) if name in PAPER else (name, "top1")
        return TransferDataset(name=name, title=title, images=absolute(images), metric=metric)
    name, colon, folder = word.partition(":")
    if name not in PAPER:
        hint = nearest(name, PAPER) or f"; the sets are {', '.join(PAPER)}"
        raise DataError(f'there is no transfer set "{name}"{hint}; or give your own images as NAME=FOLDER')
    known = NAMED[name]
    places = [Path(folder)] if colon else _places(name, data)
    there = next((place for place in places if place.is_dir()), None)
    if there is None and not colon:
        return MissingDataset(name=name, title=known.title, place=str(places[0]), source=known.source)
    images = absolute_named(f"{name}:{there or folder}")
    return TransferDataset(name=name, title=known.title, images=images, metric=known.metric)


def _places(name: str, data: Path | None) -> list[Path]:
    inside = [] if data is None else [data / name, *([data / _LOADED[name]] if name in _LOADED else [])]
    return [*inside, cache_folder() / "sets" / name]
