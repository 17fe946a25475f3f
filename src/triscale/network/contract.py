"""Preprocessing: how an image becomes the input of a network, stored with weights, exports and runs."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt, SerializerFunctionWrapHandler, model_serializer

from triscale.record import Record

Interpolation = Literal["nearest", "bilinear", "bicubic"]
BitDepth = Literal[8, 10, 12, 14, 16]
BIT_DEPTHS: tuple[BitDepth, ...] = (8, 10, 12, 14, 16)
Triple = tuple[float, float, float]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)


class Preprocessing(Record):
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

    resolution: PositiveInt
    crop: float = Field(default=1.0, gt=0, le=1)
    interpolation: Interpolation = "bicubic"
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    bit_depth: BitDepth = 16

    @model_serializer(mode="wrap")
    def _leave_out_full_depth(self, to_plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in to_plain(self).items() if (key, value) != ("bit_depth", 16)}
