"""How an image becomes the input of a network, and its output an answer; stored with weights, exports and runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field, PositiveInt

from triscale.record import Record, SparseRecord

Interpolation = Literal["nearest", "bilinear", "bicubic"]
BitDepth = Literal[8, 10, 12, 14, 16]
BIT_DEPTHS: tuple[BitDepth, ...] = (8, 10, 12, 14, 16)
Triple = tuple[float, float, float]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


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


class Preprocessing(SparseRecord):
    """The steps from a decoded RGB image to the input of a network.

    The center square whose side is ``crop`` times the short side of the image is resized to ``resolution`` x
    ``resolution`` pixels, values are divided by 255, and each channel is normalized as ``(value - mean) / std``.

    ``bit_depth`` is the number of bits that images with 16 bits per channel use: such values become 8-bit values by
    ``min(value >> (bit_depth - 8), 255)``. It does not affect images with 8 bits. It is left out of JSON if it is 16.

    Example:
        >>> Preprocessing(resolution=224, crop=0.875).interpolation
        'bicubic'
    """

    kind_name: ClassVar[str] = "preprocessing"
    sparse: ClassVar[tuple[str, ...]] = ("bit_depth",)

    resolution: PositiveInt
    crop: float = Field(default=1.0, gt=0, le=1)
    interpolation: Interpolation = "bicubic"
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    bit_depth: BitDepth = 16
