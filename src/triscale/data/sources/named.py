"""Named public datasets: their official splits, sizes and metric, and how to find the images in a local copy.

``NAME:FOLDER`` is a local copy in the layout of its authors (or of torchvision's dataset class). ``NAME`` alone is the
copy in the cache folder, downloaded through torchvision if it has a dataset class for it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from triscale.data.sources import named_layouts as layouts
from triscale.data.sources.local import absolute
from triscale.data.sources.source import Layout
from triscale.errors import DataError
from triscale.places import cache_folder
from triscale.record import Record
from triscale.retry import summarize_error

OFFLINE = "TRISCALE_OFFLINE"
"""An environment variable; if it is 1, nothing is downloaded."""

Metric = Literal["top1", "mean_class_accuracy"]
"""The metric in the protocol of Kornblith et al. 2019 (https://arxiv.org/abs/1805.08974)."""


class NamedDataset(Record):
    """Facts about a public dataset.

    Attributes:
        name: The name to give in place of a folder.
        title: The name in publications.
        train: Number of training images.
        test: Number of test images.
        classes: Number of classes.
        metric: The metric that results are published in.
        source: Web page of the authors.
        loader: The class in ``torchvision.datasets`` that can download it, or an empty string.
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
    dataset.name: dataset
    for dataset in (
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
    """Return whether images are given by a dataset name: ``NAME`` or ``NAME:FOLDER``, and no such folder exists.

    Example:
        >>> is_named("cifar10"), is_named("flowers102:/data/flowers"), is_named("photos")
        (True, True, False)
    """
    return images.partition(":")[0] in NAMED and not Path(images).exists()


def named_dataset(images: str) -> NamedDataset | None:
    """Return the facts about a named dataset, or None for any other."""
    return NAMED[images.partition(":")[0]] if is_named(images) else None


def absolute_named(images: str) -> str:
    """Return a named dataset with an absolute path of its folder."""
    name, colon, folder = images.partition(":")
    return f"{name}:{Path(folder).resolve()}" if colon else images


def absolute_images(images: str) -> str:
    """Return images as given, with a path that does not depend on the working directory."""
    return absolute_named(images) if is_named(images) else absolute(images)


def find_named(images: str) -> Layout:
    """Return the official splits of a named dataset.

    Args:
        images: ``NAME`` or ``NAME:FOLDER``.

    Raises:
        DataError: There is no copy and none can be downloaded, or the copy is not in the layout of its authors.
    """
    name, colon, path = images.partition(":")
    dataset = NAMED[name]
    if colon:
        folder = Path(path)
        if not folder.is_dir():
            raise DataError(f"there is no folder {folder}; {images} expects a local copy of {dataset.title} there")
        return _READERS[name](folder.absolute())
    folder = cache_folder() / "sets" / name
    if not folder.is_dir():
        _fetch(dataset, folder)
    return _READERS[name](folder)


def _fetch(dataset: NamedDataset, folder: Path) -> None:
    advice = f"download it from {dataset.source} and give {dataset.name}:FOLDER, or put it into {folder}"
    if not dataset.loader:
        raise DataError(f"{dataset.title} cannot be downloaded automatically; {advice}")
    if os.environ.get(OFFLINE) == "1":
        raise DataError(f"there is no copy of {dataset.title} here, and {OFFLINE} forbids downloads; {advice}")
    datasets: Any = importlib.import_module("torchvision.datasets")
    # Not atomic_directory: the name is fixed, so that the next attempt keeps the archives that are downloaded already.
    temporary = folder.with_name(f".{folder.name}.part")
    temporary.mkdir(parents=True, exist_ok=True)
    try:
        getattr(datasets, dataset.loader)(str(temporary), download=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{dataset.title} cannot be downloaded ({summarize_error(error, 200)}); {advice}") from error
    temporary.replace(folder)
