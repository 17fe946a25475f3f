"""Scaling a network: the only place that rounds widths, repeats and resolutions.

The rules are those of the released EfficientNet code: widths to multiples of 8, never more than 10% down; repeats up.
"""

from __future__ import annotations

import math
from typing import overload

from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.spec import Network, Stage, WidthRule
from triscale.scaling.law import Scale

WIDTH_MULTIPLE = 8
MIN_SHARE = 0.9
FLOAT_NOISE = 1e-9


def round_width(width: float) -> int:
    """Return the nearest multiple of 8 (at least 8), one more where that would take away over 10%."""
    rounded = max(WIDTH_MULTIPLE, int(width + WIDTH_MULTIPLE / 2) // WIDTH_MULTIPLE * WIDTH_MULTIPLE)
    return rounded + WIDTH_MULTIPLE if rounded < MIN_SHARE * width else rounded


def round_repeats(repeats: float) -> int:
    """Return the next whole number, at least 1; noise of floating point counts for nothing."""
    return max(1, math.ceil(repeats - FLOAT_NOISE))


def round_resolution(resolution: float, multiple: int) -> int:
    """Return the nearest multiple, at least one; halves go up."""
    return max(multiple, math.floor(resolution / multiple + 0.5) * multiple)


def smallest_resolution(network: AnyNetwork) -> int:
    """Return the resolution that no law goes below: a last map of one pixel, or the baseline's own if that is less."""
    return round_resolution(min(network.total_stride, network.resolution), resolution_multiple(network))


def resolution_multiple(network: AnyNetwork) -> int:
    """Return the multiple that resolutions asked for by a law are snapped to: half the network's total stride.

    A side that the strides do not divide is rounded up at each of them, and those borders are computed in full. At
    multiples of the whole stride nothing is lost but the steps are coarse (30% of the MACs near 224 px), at multiples
    of 8 px up to 17% of the MACs buys only borders, of 16 px 2% on average. ``benchmarks/snapping.py`` prints it.
    """
    return max(1, network.total_stride // 2)


def width_reaching(rounded: int) -> float:
    """Return the least width whose rounding is at least ``rounded``, a multiple of 8; above it by float noise."""
    lower = rounded - WIDTH_MULTIPLE
    return 0.0 if lower <= 0 else min(rounded - WIDTH_MULTIPLE / 2, lower / MIN_SHARE * (1 + FLOAT_NOISE))


def repeats_reaching(rounded: int) -> float:
    """Return the least number of repeats whose rounding is at least ``rounded``."""
    return rounded - 1 + 2 * FLOAT_NOISE


def resolution_reaching(rounded: int, multiple: int) -> float:
    """Return the least resolution whose rounding is at least ``rounded``."""
    return rounded - multiple / 2


@overload
def scale(network: Network, scale: Scale) -> Network: ...
@overload
def scale(network: CustomNetwork, scale: Scale) -> CustomNetwork: ...
def scale(network: AnyNetwork, scale: Scale) -> AnyNetwork:
    """Scale depth, width and resolution together.

    A multiplier of 1 leaves its dimension exactly as it is; a scaled resolution is snapped to
    :func:`resolution_multiple`. Widths and depths whose rule is ``fixed`` stay. A custom model rounds its
    depth and width itself.
    """
    resolution = network.resolution
    if scale.resolution != 1:
        asked = round_resolution(network.resolution * scale.resolution, resolution_multiple(network))
        resolution = max(smallest_resolution(network), asked)
    if isinstance(network, CustomNetwork):
        depth, width = network.depth * scale.depth, network.width * scale.width
        return network.replace(depth=depth, width=width, resolution=resolution)
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
