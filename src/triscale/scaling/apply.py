"""Scaling a network: the only place that rounds widths, repeats and resolutions.

The rules are those of the released EfficientNet code: widths to multiples of 8, never more than 10 % down; repeats up.
"""

from __future__ import annotations

import math

from triscale.network.spec import Network, Stage, WidthRule
from triscale.scaling.law import Scale

WIDTH_MULTIPLE = 8
RESOLUTION_MULTIPLE = 8
"""Resolutions that a law asks for are snapped to this multiple; ``benchmarks/snapping.py`` shows why."""

FLOAT_NOISE = 1e-9


def round_width(width: float) -> int:
    """Return the nearest multiple of 8 (at least 8), one more where that would take away over 10 %."""
    rounded = max(WIDTH_MULTIPLE, int(width + WIDTH_MULTIPLE / 2) // WIDTH_MULTIPLE * WIDTH_MULTIPLE)
    return rounded + WIDTH_MULTIPLE if rounded < 0.9 * width else rounded


def round_repeats(repeats: float) -> int:
    """Return the next whole number, at least 1; noise of floating point counts for nothing."""
    return max(1, math.ceil(repeats - FLOAT_NOISE))


def round_resolution(resolution: float, multiple: int) -> int:
    """Return the nearest multiple, at least one."""
    return max(multiple, math.floor(resolution / multiple + 0.5) * multiple)


def resolution_multiple(network: Network) -> int:
    """Return the multiple that resolutions of a network are snapped to: 8, or its total stride if that is less."""
    return min(RESOLUTION_MULTIPLE, network.total_stride)


def scale(network: Network, scale: Scale) -> Network:
    """Scale depth, width and resolution together.

    A multiplier of 1 leaves its dimension exactly as it is; a scaled resolution is snapped to
    :func:`resolution_multiple`. Widths and depths whose rule is ``fixed`` stay.
    """
    resolution = network.resolution
    if scale.resolution != 1:
        resolution = round_resolution(network.resolution * scale.resolution, resolution_multiple(network))
    return scale_to(network, depth=scale.depth, width=scale.width, resolution=resolution)


def scale_to(network: Network, *, depth: float, width: float, resolution: int) -> Network:
    """Scale depth and width, and set the resolution in pixels as it is: how published families are stated."""
    stem, head = network.stem, network.head
    return network.replace(
        stem=stem.model_copy(update={"width": scaled_width(stem.width, stem.width_rule, width)}),
        stages=tuple(
            stage.model_copy(
                update={
                    "width": scaled_width(stage.width, stage.width_rule, width),
                    "repeats": scaled_repeats(stage, depth),
                }
            )
            for stage in network.stages
        ),
        head=head
        if head.width is None
        else head.model_copy(update={"width": scaled_width(head.width, head.width_rule, width)}),
        resolution=resolution,
    )


def scaled_width(width: int, rule: WidthRule, multiplier: float) -> int:
    """Scale one width by its rule."""
    if rule == "fixed" or multiplier == 1:
        return width
    return round_width(width * (max(1.0, multiplier) if rule == "never_narrower" else multiplier))


def scaled_repeats(stage: Stage, multiplier: float) -> int:
    """Scale one stage's repeats by its rule."""
    if stage.depth_rule == "fixed" or multiplier == 1:
        return stage.repeats
    return round_repeats(stage.repeats * multiplier)
