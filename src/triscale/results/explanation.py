"""Class activation maps: of a run, of any images, and of the networks of a comparison."""

from __future__ import annotations

from typing import ClassVar

from triscale.record import Record
from triscale.search.compare.contenders import Way


class ClassifiedImage(Record):
    """The predicted class of a test image and its probability: a row of ``predictions.csv``."""

    file: str
    truth: str
    predicted: str
    confidence: float


class ExplainedImage(ClassifiedImage):
    """A test image with its class activation map; ``image`` and ``overlay`` are files in the folder ``explain``."""

    right: bool
    image: str
    overlay: str


class ExplainedImages(Record):
    """Explained test images of a run; ``method`` is the kind of class activation map."""

    kind_name: ClassVar[str] = "maps"

    method: str
    images: tuple[ExplainedImage, ...]


class ImageExplanation(Record):
    """The prediction for an image and the extent of its map in pixels, or the reason why the image is unreadable.

    ``predicted`` is the most probable class and ``confidence`` its probability. The map is that of the class
    ``explained``, with the probability ``probability``: the predicted class, or the one that was asked for.
    ``peak`` is the position of the map's maximum. ``box`` (left, top, right, bottom) encloses all values of at least
    half the maximum; ``share`` is the fraction of the map with such values. ``deletion`` and ``insertion`` are the
    areas under the curves of :mod:`triscale.explain.faithfulness`, ``random_deletion`` and ``random_insertion`` those
    for pixels in random order.
    """

    file: str
    predicted: str = ""
    confidence: float = 0.0
    explained: str = ""
    probability: float = 0.0
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
    schema_number: ClassVar[int] = 2

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
    """An image with the maps of all networks, each for its predicted class; files in the folder ``maps``."""

    file: str
    truth: str
    image: str
    network_maps: tuple[NetworkMap, ...]


class ComparisonMaps(Record):
    """The class activation maps of the networks of a comparison on the same images (Tan & Le 2019, Figure 7)."""

    kind_name: ClassVar[str] = "comparison_maps"
    schema_number: ClassVar[int] = 2

    seed: int
    images: tuple[ImageMaps, ...]
