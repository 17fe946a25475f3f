"""Preprocessing: how an image becomes the input of a network, stored with weights, exports and runs."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt

from triscale.record import Record

Interpolation = Literal["nearest", "bilinear", "bicubic"]
Triple = tuple[float, float, float]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


class Preprocessing(Record):
    """The steps from a decoded RGB image to the input of a network.

    The center square whose side is ``crop`` times the short side of the image is resized to ``resolution`` x
    ``resolution`` pixels, values are divided by 255, and each channel is normalized as ``(value - mean) / std``.

    Example:
        >>> Preprocessing(resolution=224, crop=0.875).interpolation
        'bicubic'
    """

    kind_name: ClassVar[str] = "preprocessing"

    resolution: PositiveInt
    crop: float = Field(default=1.0, gt=0, le=1)
    interpolation: Interpolation = "bicubic"
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
