"""How multipliers become whole channels, blocks and pixels: the only place that rounds them, as data.

The default is the rule of the released EfficientNet code (``round_filters`` and ``round_repeats`` in
https://github.com/tensorflow/tpu/blob/master/models/official/efficientnet/efficientnet_model.py): widths are rounded to
multiples of 8, but never down by more than 10%, and repeats are rounded up. Each function has an exact inverse, the
smallest number that is rounded to a value, from which the chain of a law is made (:mod:`triscale.scaling.chain`).
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field, PositiveInt

from triscale.network.channels import round_channels
from triscale.network.spec import WidthRule
from triscale.record import SparseRecord

FLOAT_TOLERANCE = 1e-9

Direction = Literal["nearest", "up"]
"""To the nearest value, halves up; or to the next larger one."""


class ScaleRounding(SparseRecord):
    """How the multipliers of a scaling law become whole numbers, and what they leave alone.

    Attributes:
        width: Direction in which widths are rounded.
        width_multiple: What widths are multiples of.
        min_width_ratio: Widths that ``nearest`` would reduce to less than this share are rounded up; 0 for never.
        depth: Direction in which the repeats of a stage are rounded, at least to 1.
        resolution: Direction in which the side of the image is rounded.
        resolution_multiple: What sides are multiples of, in pixels; by default half of the network's total stride.
        max_resolution: The largest side in pixels; a larger baseline keeps its own. By default there is none.
        stem: How the width of the stem scales, whatever the network's own rule is.
        head: How the width of the head scales, whatever the network's own rule is.

    Example:
        >>> round_width(44.8), round_width(44.8, ScaleRounding(width="up", width_multiple=16))
        (48, 48)
        >>> round_repeats(2.2), round_repeats(2.2, ScaleRounding(depth="nearest"))
        (3, 2)
    """

    sparse: ClassVar[tuple[str, ...]] = (
        "width", "width_multiple", "min_width_ratio", "depth", "resolution", "resolution_multiple", "max_resolution",
        "stem", "head",
    )  # fmt: skip

    width: Direction = "nearest"
    width_multiple: PositiveInt = 8
    min_width_ratio: float = Field(default=0.9, ge=0, le=1)
    depth: Direction = "up"
    resolution: Direction = "nearest"
    resolution_multiple: PositiveInt | None = None
    max_resolution: PositiveInt | None = None
    stem: WidthRule | None = None
    head: WidthRule | None = None


RELEASED = ScaleRounding()
"""The rounding of the released EfficientNet code, with resolutions that are multiples of half the total stride."""


def round_width(width: float, rounding: ScaleRounding = RELEASED) -> int:
    """Round a width to a multiple, by default to the nearest multiple of 8, or up if that would reduce it by over 10%.

    Example:
        >>> [round_width(width) for width in (3, 19, 35.2, 44.8)]
        [8, 24, 32, 48]
    """
    multiple = rounding.width_multiple
    if rounding.width == "up":
        return max(1, math.ceil(width / multiple - FLOAT_TOLERANCE)) * multiple
    return round_channels(width, multiple, rounding.min_width_ratio)


def min_width_for(rounded: int, rounding: ScaleRounding = RELEASED) -> float:
    """Return the smallest width that :func:`round_width` rounds to ``rounded``, a multiple, or more."""
    multiple = rounding.width_multiple
    lower = rounded - multiple
    if lower <= 0:
        return 0.0
    if rounding.width == "up":
        return lower + 2 * FLOAT_TOLERANCE * multiple
    middle = rounded - multiple / 2
    if not rounding.min_width_ratio:
        return middle
    # round_width(w) reaches `rounded` by nearest rounding, or earlier if `lower` is more than 10% below w.
    return min(middle, lower / rounding.min_width_ratio * (1 + FLOAT_TOLERANCE))


def round_repeats(repeats: float, rounding: ScaleRounding = RELEASED) -> int:
    """Round a number of repeats, by default up, at least to 1, with a tolerance for floating-point errors.

    Example:
        >>> [round_repeats(repeats) for repeats in (0.5, 2.0 + 1e-12, 2.2)]
        [1, 2, 3]
    """
    if rounding.depth == "nearest":
        return max(1, math.floor(repeats + 0.5 + FLOAT_TOLERANCE))
    return max(1, math.ceil(repeats - FLOAT_TOLERANCE))


def min_repeats_for(rounded: int, rounding: ScaleRounding = RELEASED) -> float:
    """Return the smallest number of repeats that :func:`round_repeats` rounds to ``rounded`` or more."""
    return rounded - 0.5 if rounding.depth == "nearest" else rounded - 1 + 2 * FLOAT_TOLERANCE


def round_resolution(resolution: float, multiple: int, direction: Direction = "nearest") -> int:
    """Round a resolution to a multiple, at least one; by default to the nearest, with halves rounded up."""
    if direction == "up":
        return max(multiple, math.ceil(resolution / multiple - FLOAT_TOLERANCE) * multiple)
    return max(multiple, math.floor(resolution / multiple + 0.5) * multiple)


def min_resolution_for(rounded: int, multiple: int, direction: Direction = "nearest") -> float:
    """Return the smallest resolution that :func:`round_resolution` rounds to ``rounded`` or more."""
    return rounded - multiple + 2 * FLOAT_TOLERANCE * multiple if direction == "up" else rounded - multiple / 2
