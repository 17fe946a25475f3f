"""Class activation maps: of a run, of any images, and of the networks of a comparison."""

from __future__ import annotations

from typing import ClassVar

from triscale.record import Record
from triscale.search.compare.contenders import Way


class ClassifiedImage(Record):
    """The most likely class of a test image and its probability: a row of ``predictions.csv``."""

    file: str
    truth: str
    predicted: str
    confidence: float


class ExplainedImage(ClassifiedImage):
    """A test image with its class activation map: files in the run's ``explain`` folder."""

    right: bool
    image: str
    overlay: str


class ExplainedImages(Record):
    """The explained images; ``method`` is the kind of class activation map."""

    kind_name: ClassVar[str] = "maps"

    method: str
    images: tuple[ExplainedImage, ...]


class ImageExplanation(Record):
    """The prediction for an image and the extent of its map in pixels of the image; or why it could not be read.

    ``peak`` is the maximum of the map, ``box`` (left, top, right, bottom) encloses all values above half of it,
    ``share`` is the share of the map inside the box. ``deletion`` and ``insertion`` are the areas under the curves of
    :mod:`triscale.explain.faithfulness`, the ``random`` ones those of pixels in random order.
    """

    file: str
    predicted: str = ""
    confidence: float = 0.0
    overlay: str = ""
    peak: tuple[float, float] | None = None
    box: tuple[float, float, float, float] | None = None
    share: float = 0.0
    deletion: float | None = None
    insertion: float | None = None
    random_deletion: float | None = None
    random_insertion: float | None = None
    error: str | None = None


class Explanation(Record):
    """Class activation maps of any images; overlays and the contact sheet are files in the same folder."""

    kind_name: ClassVar[str] = "explanation"
    file_name: ClassVar[str] = "explanation.json"

    network: str
    method: str
    sheet: str
    images: tuple[ImageExplanation, ...]


class NetworkMap(Record):
    """The prediction of one network of a comparison for an image, and the file of its map."""

    way: Way
    predicted: str
    confidence: float
    overlay: str


class ImageMaps(Record):
    """An image with the maps of all networks, each for the class that it predicts; files below ``maps``."""

    file: str
    truth: str
    image: str
    network_maps: tuple[NetworkMap, ...]


class ComparisonMaps(Record):
    """The class activation maps of the networks of a comparison on the same images (Tan & Le 2019, Figure 7)."""

    kind_name: ClassVar[str] = "maps_beside"
    schema_number: ClassVar[int] = 2

    seed: int
    images: tuple[ImageMaps, ...]
