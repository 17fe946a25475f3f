"""Scale a network: the only place that rounds widths, repeats and resolutions.

The rules are those of the released EfficientNet code (``round_filters`` and ``round_repeats`` in
https://github.com/tensorflow/tpu/blob/master/models/official/efficientnet/efficientnet_model.py): widths are rounded to
multiples of 8, but never down by more than 10%, and repeats are rounded up.
"""

from __future__ import annotations

import math
from typing import overload

from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.spec import Network, Stage, WidthRule
from triscale.scaling.law import Scale

WIDTH_MULTIPLE = 8
MIN_WIDTH_RATIO = 0.9
FLOAT_TOLERANCE = 1e-9


def round_width(width: float) -> int:
    """Round a width to the nearest multiple of 8, at least 8, or up if that would reduce it by more than 10%.

    Example:
        >>> [round_width(width) for width in (3, 19, 35.2, 44.8)]
        [8, 24, 32, 48]
    """
    rounded = max(WIDTH_MULTIPLE, int(width + WIDTH_MULTIPLE / 2) // WIDTH_MULTIPLE * WIDTH_MULTIPLE)
    return rounded + WIDTH_MULTIPLE if rounded < MIN_WIDTH_RATIO * width else rounded


def round_repeats(repeats: float) -> int:
    """Round a number of repeats up, at least to 1, with a tolerance for floating-point errors.

    Example:
        >>> [round_repeats(repeats) for repeats in (0.5, 2.0 + 1e-12, 2.2)]
        [1, 2, 3]
    """
    return max(1, math.ceil(repeats - FLOAT_TOLERANCE))


def round_resolution(resolution: float, multiple: int) -> int:
    """Round a resolution to the nearest multiple, at least one multiple; halves are rounded up."""
    return max(multiple, math.floor(resolution / multiple + 0.5) * multiple)


def min_resolution(network: AnyNetwork) -> int:
    """Return the minimum resolution of a law: a last feature map of one pixel, or the baseline's own if smaller.

    Where an image is narrower than high, its width counts.
    """
    across, down = network.aspect_ratio
    one_pixel = network.total_stride * down / min(across, down)
    return round_resolution(min(one_pixel, network.resolution), resolution_multiple(network))


def resolution_multiple(network: AnyNetwork) -> int:
    """Return the multiple that scaled resolutions are rounded to: half of the network's total stride.

    A side that is not divisible by a stride is rounded up there, and the additional border is computed in full.
    Multiples of the total stride waste nothing, but their steps are coarse (30% of the MACs near 224 px). With
    multiples of 8 px, up to 17% of the MACs are spent on borders, with 16 px 2% on average; see
    ``benchmarks/snapping.py``.
    """
    return max(1, network.total_stride // 2)


def min_width_for(rounded: int) -> float:
    """Return the smallest width that :func:`round_width` rounds to ``rounded``, a multiple of 8, or more."""
    lower = rounded - WIDTH_MULTIPLE
    # round_width(w) reaches `rounded` by nearest rounding, or earlier if `lower` is more than 10% below w.
    return 0.0 if lower <= 0 else min(rounded - WIDTH_MULTIPLE / 2, lower / MIN_WIDTH_RATIO * (1 + FLOAT_TOLERANCE))


def min_repeats_for(rounded: int) -> float:
    """Return the smallest number of repeats that :func:`round_repeats` rounds to ``rounded`` or more."""
    return rounded - 1 + 2 * FLOAT_TOLERANCE


def min_resolution_for(rounded: int, multiple: int) -> float:
    """Return the smallest resolution that :func:`round_resolution` rounds to ``rounded`` or more."""
    return rounded - multiple / 2


@overload
def scale(network: Network, scale: Scale) -> Network: ...
@overload
def scale(network: CustomNetwork, scale: Scale) -> CustomNetwork: ...
def scale(network: AnyNetwork, scale: Scale) -> AnyNetwork:
    """Scale depth, width and resolution together.

    A multiplier of 1 leaves its dimension unchanged. A scaled resolution is rounded to :func:`resolution_multiple`.
    Widths and depths with the rule ``fixed`` are not scaled. A custom model rounds its depth and width itself.

    Args:
        network: The baseline.
        scale: Multipliers of depth, width and resolution.

    Returns:
        The scaled network, with the baseline's name.

    Example:
        >>> from triscale.families import get
        >>> scaled = scale(get("efficientnet_b0"), Scale(depth=1.2, width=1.1, resolution=1.15))
        >>> scaled.stages[1].repeats, scaled.head.width, scaled.resolution
        (3, 1408, 256)
    """
    resolution = network.resolution
    if scale.resolution != 1:
        rounded = round_resolution(network.resolution * scale.resolution, resolution_multiple(network))
        resolution = max(min_resolution(network), rounded)
    if isinstance(network, CustomNetwork):
        depth, width = network.depth * scale.depth, network.width * scale.width
        return network.replace(depth=depth, width=width, resolution=resolution)
    return scale_to(network, depth=scale.depth, width=scale.width, resolution=resolution)


def scale_to(network: Network, *, depth: float, width: float, resolution: int) -> Network:
    """Scale depth and width, and set the resolution in pixels without rounding, as published families are specified.

    Args:
        network: The baseline.
        depth: Multiplier of the repeats.
        width: Multiplier of the widths.
        resolution: In pixels.
    """
    stem, head = network.stem, network.head
    return network.replace(
        stem=stem.replace(width=scaled_width(stem.width, stem.width_rule, width)),
        stages=tuple(
            stage.replace(
                width=scaled_width(stage.width, stage.width_rule, width), repeats=scaled_repeats(stage, depth)
            )
            for stage in network.stages
        ),
        head=head if head.width is None else head.replace(width=scaled_width(head.width, head.width_rule, width)),
        resolution=resolution,
    )


def scaled_width(width: int, rule: WidthRule, multiplier: float) -> int:
    """Scale and round one width according to its rule."""
    if rule == "fixed" or multiplier == 1:
        return width
    return round_width(width * (max(1.0, multiplier) if rule == "never_narrower" else multiplier))


def scaled_repeats(stage: Stage, multiplier: float) -> int:
    """Scale and round the repeats of one stage according to its rule."""
    if stage.depth_rule == "fixed" or multiplier == 1:
        return stage.repeats
    return round_repeats(stage.repeats * multiplier)
