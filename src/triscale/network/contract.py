"""How an image becomes the input of a network: the contract that travels with weights, exports and runs."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, PositiveInt

from triscale.record import Record

Interpolation = Literal["nearest", "bilinear", "bicubic"]
Triple = tuple[float, float, float]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


class Preprocessing(Record):
    """Decoded RGB image -> network input.

    The center square whose side is ``crop`` times the short side of the image is resized to ``resolution`` x
    ``resolution`` pixels, its values are divided by 255, and ``(value - mean) / std`` is taken for each channel.
    """

    kind_name: ClassVar[str] = "preprocessing"

    resolution: PositiveInt
    crop: float = Field(default=1.0, gt=0, le=1)
    interpolation: Interpolation = "bicubic"
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
