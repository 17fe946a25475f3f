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
    """The images that were explained; ``method`` says how."""

    kind_name: ClassVar[str] = "maps"

    method: str
    images: tuple[ExplainedImage, ...]


class ImageExplanation(Record):
    """What a network says of an image and where it looks, in the image's own pixels; or why it was not read.

    ``peak`` is where the map is greatest, ``box`` (left, top, right, bottom) holds all of it from half of that on,
    ``share`` is how much of the map that is. ``deletion`` and ``insertion`` are the areas under the two curves of
    :mod:`triscale.explain.faithful`, the ``random`` ones those of pixels in the order of chance.
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
    """Where a network looks in a person's images; overlays and the contact sheet lie beside it."""

    kind_name: ClassVar[str] = "explanation"
    file_name: ClassVar[str] = "explanation.json"

    network: str
    method: str
    sheet: str
    images: tuple[ImageExplanation, ...]


class NetworkMap(Record):
    """What the network of one way says of an image, and the file of its map."""

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

    seed: int
    images: tuple[ImageMaps, ...]
