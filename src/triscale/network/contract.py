"""How an image becomes the input of a network, and its output an answer; stored with weights, exports and runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from triscale.network.input_size import SQUARE, AspectRatio, ImageShape, SizedRecord
from triscale.record import Record

Interpolation = Literal["nearest", "bilinear", "bicubic"]
BitDepth = Literal[8, 10, 12, 14, 16]
BIT_DEPTHS: tuple[BitDepth, ...] = (8, 10, 12, 14, 16)
Values = Annotated[tuple[float, ...], Field(min_length=1)]
"""One value for each channel."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


Link = Literal["softmax", "sigmoid"]
"""How logits become probabilities: of exactly one class, or of each label on its own."""


class Decision(Record):
    """The steps from the logits of a network to an answer.

    With the link ``softmax``, the answer is the most probable class. With ``sigmoid``, an image may have any number of
    labels: those with a probability of at least their threshold, by default 0.5.

    Example:
        >>> Decision(link="sigmoid", thresholds=(0.3, 0.6)).chosen((0.4, 0.4))
        (0,)
        >>> Decision().chosen((0.2, 0.8))
        (1,)
    """

    kind_name: ClassVar[str] = "decision"

    link: Link = "softmax"
    thresholds: tuple[float, ...] | None = None

    def chosen(self, probabilities: Sequence[float]) -> tuple[int, ...]:
        """Return the indices of the classes that an image is given, from the probabilities of all classes."""
        if self.link == "softmax":
            return (max(range(len(probabilities)), key=probabilities.__getitem__),)
        limits = self.thresholds or (0.5,) * len(probabilities)
        return tuple(i for i, (value, limit) in enumerate(zip(probabilities, limits, strict=True)) if value >= limit)


SOFTMAX = Decision()


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
