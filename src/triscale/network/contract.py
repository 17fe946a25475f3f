"""How an image becomes the input of a network, and its output an answer; stored with weights, exports and runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from triscale.network.input_size import SQUARE, AspectRatio, ImageShape, SizedRecord
from triscale.record import Record, SparseRecord

Interpolation = Literal["nearest", "bilinear", "bicubic"]
BitDepth = Literal[8, 10, 12, 14, 16]
BIT_DEPTHS: tuple[BitDepth, ...] = (8, 10, 12, 14, 16)
Values = Annotated[tuple[float, ...], Field(min_length=1)]
"""One value for each channel."""

OpenShare = Annotated[float, Field(gt=0, lt=1)]
ClosedShare = Annotated[float, Field(ge=0, le=1)]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


Link = Literal["softmax", "sigmoid"]
"""How logits become probabilities: of exactly one class, or of each label on its own."""


class Confidence(Record):
    """How the validation images say that the probabilities of a network are corrected and read.

    It is part of the decision, so that it travels with a network into exported files; the graph in the file stays as it
    is.

    Attributes:
        temperature: Logits are divided by it before they become probabilities; 1 leaves them as they are.
        coverage: Share of images whose prediction set is to contain the class, or all labels.
        set_threshold: Probability from which a class belongs to the prediction set; None for no sets.
        kept: Share of images that are not to be called unknown, if they are like the validation images.
        unknown_threshold: An image whose negative energy is lower is called unknown, see
            :func:`triscale.nn.probabilities.negative_energy`; None to call none unknown.
    """

    temperature: PositiveFloat = 1.0
    coverage: OpenShare
    set_threshold: ClosedShare | None = None
    kept: OpenShare
    unknown_threshold: float | None = None


class Decision(SparseRecord):
    """The steps from the logits of a network to an answer.

    With the link ``softmax``, the answer is the most probable class. With ``sigmoid``, an image may have any number of
    labels: those with a probability of at least their threshold, by default 0.5. Probabilities are those of the logits
    divided by the temperature of ``confidence``, which is None, and left out of JSON, before a calibration.

    Example:
        >>> Decision(link="sigmoid", thresholds=(0.3, 0.6)).chosen((0.4, 0.4))
        (0,)
        >>> Decision().chosen((0.2, 0.8))
        (1,)
    """

    kind_name: ClassVar[str] = "decision"
    sparse: ClassVar[tuple[str, ...]] = ("confidence",)

    link: Link = "softmax"
    thresholds: tuple[float, ...] | None = None
    confidence: Confidence | None = None

    @property
    def temperature(self) -> float:
        """What logits are divided by; 1 before a calibration."""
        return 1.0 if self.confidence is None else self.confidence.temperature

    def calibrated(self, confidence: Confidence) -> Decision:
        """Return the decision with a calibration; every image keeps its labels.

        The thresholds become those of the calibrated probabilities.

        Example:
            >>> before = Decision(link="sigmoid", thresholds=(0.8, 0.5))
            >>> after = before.calibrated(Confidence(temperature=2.0, coverage=0.9, kept=0.95))
            >>> [round(value, 3) for value in after.thresholds]
            [0.667, 0.5]
        """
        ratio = confidence.temperature / self.temperature
        thresholds = None if self.thresholds is None else tuple(_tempered(value, ratio) for value in self.thresholds)
        return self.replace(thresholds=thresholds, confidence=confidence)

    def chosen(self, probabilities: Sequence[float]) -> tuple[int, ...]:
        """Return the indices of the classes that an image is given, from the probabilities of all classes."""
        if self.link == "softmax":
            return (max(range(len(probabilities)), key=probabilities.__getitem__),)
        limits = self.thresholds or (0.5,) * len(probabilities)
        return tuple(i for i, (value, limit) in enumerate(zip(probabilities, limits, strict=True)) if value >= limit)

    def prediction_set(self, probabilities: Sequence[float]) -> tuple[int, ...] | None:
        """Return the indices of the classes of an image's prediction set, the most probable first; None without sets.

        The most probable class always belongs to it if every image has one class.

        Example:
            >>> decision = Decision(confidence=Confidence(coverage=0.9, set_threshold=0.3, kept=0.95))
            >>> decision.prediction_set((0.35, 0.55, 0.1)), decision.prediction_set((0.3, 0.3, 0.2, 0.2))
            ((1, 0), (0, 1))
        """
        limit = None if self.confidence is None else self.confidence.set_threshold
        if limit is None:
            return None
        always = self.chosen(probabilities) if self.link == "softmax" else ()
        members = {*always, *(index for index, value in enumerate(probabilities) if value >= limit)}
        return tuple(sorted(members, key=lambda index: (-probabilities[index], index)))

    def is_unknown(self, negative_energy: float) -> bool | None:
        """Return whether an image with a negative energy is called unknown; None without a threshold.

        Example:
            >>> decision = Decision(confidence=Confidence(coverage=0.9, kept=0.95, unknown_threshold=4.5))
            >>> decision.is_unknown(3.0), decision.is_unknown(4.5)
            (True, False)
        """
        limit = None if self.confidence is None else self.confidence.unknown_threshold
        return None if limit is None else negative_energy < limit


def _tempered(probability: float, ratio: float) -> float:
    """Return the sigmoid of the logit of a probability divided by ``ratio``."""
    if ratio == 1 or not 0 < probability < 1:
        return probability
    return 1 / (1 + math.exp(-math.log(probability / (1 - probability)) / ratio))


SOFTMAX = Decision()


class WeightsOrigin(SparseRecord):
    """The published or imported weights that a network is, or was trained from; it travels into exported files.

    Attributes:
        weights: Project and name, as ``triscale weights list`` shows them.
        license: Their SPDX identifier or expression in lower case; None if unknown.
        sha256: SHA-256 of the original file, or its first digits if only those are published.
        url: URL of the original file.
        hub: Its repository on the Hugging Face Hub.

    Example:
        >>> WeightsOrigin(weights="timm/resnet18.a1_in1k").license_in_words
        'unknown: check the source'
    """

    sparse: ClassVar[tuple[str, ...]] = ("license", "sha256", "url", "hub")

    weights: str
    license: str | None = None
    sha256: str | None = None
    url: str | None = None
    hub: str | None = None

    @property
    def is_non_commercial(self) -> bool:
        """Whether the license is known to forbid commercial use."""
        return (self.license or "").startswith(NON_COMMERCIAL)

    @property
    def license_in_words(self) -> str:
        """The license, or that it is unknown."""
        return self.license or UNKNOWN_LICENSE


NON_COMMERCIAL = "cc-by-nc"
"""Beginning of the SPDX identifiers of licenses that forbid commercial use."""

UNKNOWN_LICENSE = "unknown: check the source"
"""What is shown for a license that nobody has stated; it is never guessed."""


def usual_moments(channels: int) -> tuple[Values, Values]:
    """Return mean and standard deviation of each channel: ImageNet's for RGB, their average for gray.

    Other channels have no usual values; 0.5 and 0.25 are in the middle of what images have.

    Example:
        >>> usual_moments(1)
        ((0.449,), (0.226,))
    """
    match channels:
        case 3:
            return IMAGENET_MEAN, IMAGENET_STD
        case 1:
            return (round(sum(IMAGENET_MEAN) / 3, 3),), (round(sum(IMAGENET_STD) / 3, 3),)
        case _:
            return (0.5,) * channels, (0.25,) * channels


class Preprocessing(SizedRecord):
    """The steps from a decoded image to the input of a network.

    The largest centered rectangle with the ratio of the input (a square, unless ``aspect_ratio`` is given), with both
    sides multiplied by ``crop``, is resized to the height ``resolution`` and its width. Values are divided by 255, and
    each channel is normalized as ``(value - mean) / std``; there are as many channels as values of ``mean`` and of
    ``std``.

    ``bit_depth`` is the number of bits that images with 16 bits per channel use: such values become 8-bit values by
    ``min(value >> (bit_depth - 8), 255)``. It does not affect images with 8 bits. It is left out of JSON if it is 16.

    Example:
        >>> Preprocessing(resolution=224, crop=0.875).interpolation
        'bicubic'
    """

    kind_name: ClassVar[str] = "preprocessing"
    sparse: ClassVar[tuple[str, ...]] = ("aspect_ratio", "bit_depth")

    resolution: PositiveInt
    aspect_ratio: AspectRatio = SQUARE
    crop: float = Field(default=1.0, gt=0, le=1)
    interpolation: Interpolation = "bicubic"
    mean: Values = IMAGENET_MEAN
    std: Values = IMAGENET_STD
    bit_depth: BitDepth = 16

    @model_validator(mode="after")
    def _check_channels(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} values and std {len(self.std)}; expected one for each channel")
        return self

    @classmethod
    def usual(cls, input_shape: ImageShape, crop: float = 1.0, bit_depth: BitDepth = 16) -> Self:
        """Return the preprocessing for an input of this shape, with the usual mean and standard deviation.

        Example:
            >>> Preprocessing.usual((1, 184, 720)).aspect_ratio
            (90, 23)
        """
        channels, height, width = input_shape
        mean, std = usual_moments(channels)
        aspect_ratio = (width, height)
        return cls(resolution=height, aspect_ratio=aspect_ratio, crop=crop, mean=mean, std=std, bit_depth=bit_depth)

    @property
    def channels(self) -> int:
        """Number of channels of the input."""
        return len(self.mean)

    @property
    def input_shape(self) -> ImageShape:
        """Channels, height and width of the input."""
        return self.size.shape(self.channels)
