"""Named sets of images: their official parts, sizes and metric, and where their images lie in a local copy.

``NAME:FOLDER`` is a local copy in the layout of its authors (or of the torchvision loader of it), ``NAME`` alone the
copy in the cache folder, fetched through torchvision's loader where it has one.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from triscale.data.sources import named_layouts as layouts
from triscale.data.sources.source import Layout
from triscale.errors import DataError
from triscale.places import cache_folder
from triscale.record import Record

OFFLINE = "TRISCALE_OFFLINE"
"""A variable of the environment: with 1, nothing is fetched."""

Metric = Literal["top1", "mean_class_accuracy"]
"""``mean_class_accuracy`` where the protocol of Kornblith et al. 2019 (https://arxiv.org/abs/1805.08974) has it."""


class NamedDataset(Record):
    """What is known of a set: images for training and testing, classes, the metric that it is reported by, its source.

    ``loader`` is the class of torchvision that can fetch it, empty where there is none.
    """

    name: str
    title: str
    train: int
    test: int
    classes: int
    metric: Metric
    source: str
    loader: str = ""


NAMED: dict[str, NamedDataset] = {
    found.name: found
    for found in (
        NamedDataset(
            name="cifar10",
            title="CIFAR-10",
            train=50000,
            test=10000,
            classes=10,
            metric="top1",
            source="https://www.cs.toronto.edu/~kriz/cifar.html",
            loader="CIFAR10",
        ),
        NamedDataset(
            name="cifar100",
            title="CIFAR-100",
            train=50000,
            test=10000,
            classes=100,
            metric="top1",
            source="https://www.cs.toronto.edu/~kriz/cifar.html",
            loader="CIFAR100",
        ),
        NamedDataset(
            name="birdsnap",
            title="Birdsnap",
            train=47386,
            test=2443,
            classes=500,
            metric="top1",
            source="https://thomasberg.org",
        ),
        NamedDataset(
            name="stanford_cars",
            title="Stanford Cars",
            train=8144,
            test=8041,
            classes=196,
            metric="top1",
            source="https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
            loader="StanfordCars",
        ),
        NamedDataset(
            name="flowers102",
            title="Oxford 102 Flowers",
            train=2040,
            test=6149,
            classes=102,
            metric="mean_class_accuracy",
            source="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
            loader="Flowers102",
        ),
        NamedDataset(
            name="fgvc_aircraft",
            title="FGVC Aircraft",
            train=6667,
            test=3333,
            classes=100,
            metric="mean_class_accuracy",
            source="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
            loader="FGVCAircraft",
        ),
        NamedDataset(
            name="oxford_iiit_pet",
            title="Oxford-IIIT Pets",
            train=3680,
            test=3669,
            classes=37,
            metric="mean_class_accuracy",
            source="https://www.robots.ox.ac.uk/~vgg/data/pets/",
            loader="OxfordIIITPet",
        ),
        NamedDataset(
            name="food101",
            title="Food-101",
            train=75750,
            test=25250,
            classes=101,
            metric="top1",
            source="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
            loader="Food101",
        ),
        NamedDataset(
            name="imagenet",
            title="ImageNet (ILSVRC 2012)",
            train=1281167,
            test=50000,
            classes=1000,
            metric="top1",
            source="https://image-net.org",
        ),
    )
}

_READERS: dict[str, Callable[[Path], Layout]] = {
    "cifar10": lambda folder: layouts.cifar(folder, "batches.meta", b"label_names", b"labels"),
    "cifar100": lambda folder: layouts.cifar(folder, "meta", b"fine_label_names", b"fine_labels"),
    "birdsnap": layouts.birdsnap,
    "stanford_cars": layouts.stanford_cars,
    "flowers102": layouts.flowers,
    "fgvc_aircraft": layouts.aircraft,
    "oxford_iiit_pet": layouts.pets,
    "food101": layouts.food,
    "imagenet": layouts.imagenet,
}


def is_named(images: str) -> bool:
    """Return whether a set is given by its name: no such folder is there, and the part before a ``:`` is known."""
    return images.partition(":")[0] in NAMED and not Path(images).exists()


def named_dataset(images: str) -> NamedDataset | None:
    """Return what is known of a set that is given by its name, or None for any other."""
    return NAMED[images.partition(":")[0]] if is_named(images) else None


def absolute_named(images: str) -> str:
    """Return a named set such that it is found from any folder."""
    name, colon, folder = images.partition(":")
    return f"{name}:{Path(folder).resolve()}" if colon else images


def find_named(images: str) -> Layout:
    """Return the official parts of a named set.

    Raises:
        DataError: no copy of it is there and none can be fetched, or the copy is not in the layout of its authors.
    """
    name, colon, folder = images.partition(":")
    found = NAMED[name]
    if colon:
        place = Path(folder)
        if not place.is_dir():
            raise DataError(f"there is no folder {place}; {images} means a local copy of {found.title} in it")
        return _READERS[name](place.absolute())
    place = cache_folder() / "sets" / name
    if not place.is_dir():
        _fetch(found, place)
    return _READERS[name](place)


def _fetch(found: NamedDataset, place: Path) -> None:
    advice = f"put a copy from {found.source} anywhere and give {found.name}:FOLDER, or into {place}"
    if not found.loader:
        raise DataError(f"{found.title} is in no public place that a loader knows; {advice}")
    if os.environ.get(OFFLINE) == "1":
        raise DataError(f"there is no copy of {found.title} here, and {OFFLINE} forbids to fetch one; {advice}")
    datasets: Any = importlib.import_module("torchvision.datasets")
    aside = place.with_name(f".{place.name}.part")
    aside.mkdir(parents=True, exist_ok=True)
    try:
        getattr(datasets, found.loader)(str(aside), download=True)
    except (OSError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise DataError(f"{found.title} cannot be fetched ({said}); {advice}") from error
    aside.replace(place)
