"""Scale a network by multipliers, or by a law and phi; :mod:`triscale.scaling.rounding` rounds the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.spec import Conv, Network, Stage, WidthRule
from triscale.scaling.law import Scale, ScalingLaw, check_phi
from triscale.scaling.rounding import RELEASED, ScaleRounding, round_repeats, round_resolution, round_width

ByPlace = Callable[[float], float]
"""A multiplier by the place in the network: 0 at the stem and the first stage, 1 at the last stage and the head."""


def resolution_multiple(network: AnyNetwork, rounding: ScaleRounding = RELEASED) -> int:
    """Return the multiple that scaled resolutions are rounded to: by default half of the network's total stride.

    A side that is not divisible by a stride is rounded up there, and the additional border is computed in full.
    Multiples of the total stride waste nothing, but their steps are coarse (30% of the MACs near 224 px). With
    multiples of 8 px, up to 17% of the MACs are spent on borders, with 16 px 2% on average; see
    ``benchmarks/snapping.py``.
    """
    return rounding.resolution_multiple or max(1, network.total_stride // 2)


def min_resolution(network: AnyNetwork, rounding: ScaleRounding = RELEASED) -> int:
    """Return the minimum resolution of a law: a last feature map of one pixel, or the baseline's own if smaller.

    Where an image is narrower than high, its width counts.
    """
    across, down = network.aspect_ratio
    one_pixel = network.total_stride * down / min(across, down)
    return round_resolution(min(one_pixel, network.resolution), resolution_multiple(network, rounding))


def max_resolution(network: AnyNetwork, rounding: ScaleRounding = RELEASED) -> int | None:
    """Return the maximum resolution of a law in pixels, or the baseline's own if larger; None if there is none."""
    if rounding.max_resolution is None:
        return None
    multiple = resolution_multiple(network, rounding)
    return max(network.resolution, rounding.max_resolution // multiple * multiple)


def places_of(network: Network) -> tuple[float, ...]:
    """Return the place of each stage in a network: 0 for the first, 1 for the last, and for the only one.

    Convolutions of fixed depth before the first block are a deep stem: they have the place of the first stage.

    Example:
        >>> from triscale.families import get
        >>> places_of(get("resnetrs50"))[3:]
        (0.0, 0.3333333333333333, 0.6666666666666666, 1.0)
    """
    stem = 0
    for stage in network.stages[:-1]:
        if not isinstance(stage.block, Conv) or stage.depth_rule != "fixed":
            break
        stem += 1
    steps = len(network.stages) - stem - 1
    return tuple(max(0, index - stem) / steps if steps else 1.0 for index in range(len(network.stages)))


@overload
def scale(network: Network, scale: Scale, rounding: ScaleRounding = RELEASED) -> Network: ...
@overload
def scale(network: CustomNetwork, scale: Scale, rounding: ScaleRounding = RELEASED) -> CustomNetwork: ...
def scale(network: AnyNetwork, scale: Scale, rounding: ScaleRounding = RELEASED) -> AnyNetwork:
    """Scale depth, width and resolution together.

    A multiplier of 1 leaves its dimension unchanged. A scaled resolution is rounded to :func:`resolution_multiple`.
    Widths and depths with the rule ``fixed`` are not scaled. A custom model rounds its depth and width itself.

    Args:
        network: The baseline.
        scale: Multipliers of depth, width and resolution.
        rounding: How widths, repeats and resolutions are rounded.

    Returns:
        The scaled network, with the baseline's name.

    Example:
        >>> from triscale.families import get
        >>> scaled = scale(get("efficientnet_b0"), Scale(depth=1.2, width=1.1, resolution=1.15))
        >>> scaled.stages[1].repeats, scaled.head.width, scaled.resolution
        (3, 1408, 256)
    """
    resolution = scaled_resolution(network, scale.resolution, rounding)
    if isinstance(network, CustomNetwork):
        depth, width = network.depth * scale.depth, network.width * scale.width
        return network.replace(depth=depth, width=width, resolution=resolution)
    return scale_to(network, depth=scale.depth, width=scale.width, resolution=resolution, rounding=rounding)


@overload
def scale_by_law(network: Network, law: ScalingLaw, phi: float) -> Network: ...
@overload
def scale_by_law(network: CustomNetwork, law: ScalingLaw, phi: float) -> CustomNetwork: ...
def scale_by_law(network: AnyNetwork, law: ScalingLaw, phi: float) -> AnyNetwork:
    """Scale a network by a law: each stage by the multipliers of its place, rounded as the law says.

    For the paper's law this is ``scale(network, law.at(phi))``. A custom model has no stages that are known, so that
    a law of stages gives it their mean.

    Args:
        network: The baseline.
        law: The scaling law.
        phi: The compound coefficient.

    Returns:
        The scaled network, with the baseline's name.

    Raises:
        BudgetError: phi is not a finite number, or beyond the end of the law.

    Example:
        >>> from triscale.families import get
        >>> from triscale.scaling.named_laws import NAMED_LAWS
        >>> grown = scale_by_law(get("resnet50"), NAMED_LAWS["resnet-rs"], 2)  # ResNet-RS-152
        >>> [stage.repeats for stage in grown.stages]
        [3, 8, 36, 3]
    """
    scale_of_all = law.at(phi)
    if isinstance(network, CustomNetwork):
        return scale(network, scale_of_all, law.rounding)
    return _scaled(
        network,
        lambda place: law.multiplier("depth", phi, place),
        lambda place: law.multiplier("width", phi, place),
        scaled_resolution(network, scale_of_all.resolution, law.rounding),
        law.rounding,
    )


@overload
def network_at(network: Network, law: ScalingLaw, phi: float) -> Network: ...
@overload
def network_at(network: CustomNetwork, law: ScalingLaw, phi: float) -> CustomNetwork: ...
def network_at(network: AnyNetwork, law: ScalingLaw, phi: float) -> AnyNetwork:
    """Return the network of a law at a phi that a user gave, named ``NAME_phi+1``.

    Raises:
        BudgetError: phi is out of the law's range, or not a finite number.

    Example:
        >>> from triscale.families import get
        >>> from triscale.scaling.law import EFFICIENTNET
        >>> network_at(get("efficientnet_b0"), EFFICIENTNET, 1).name
        'efficientnet_b0_phi+1'
    """
    return scale_by_law(network, law, check_phi(law, phi)).replace(name=f"{network.name}_phi{phi:+g}")


def scale_to(
    network: Network, *, depth: float, width: float, resolution: int, rounding: ScaleRounding = RELEASED
) -> Network:
    """Scale depth and width, and set the resolution in pixels without rounding, as published families are specified.

    Args:
        network: The baseline.
        depth: Multiplier of the repeats.
        width: Multiplier of the widths.
        resolution: In pixels.
        rounding: How widths and repeats are rounded.
    """
    return _scaled(network, lambda _: depth, lambda _: width, resolution, rounding)


def _scaled(network: Network, depth: ByPlace, width: ByPlace, resolution: int, rounding: ScaleRounding) -> Network:
    stem, head = network.stem, network.head
    stages = []
    for place, stage in zip(places_of(network), network.stages, strict=True):
        channels = scaled_width(stage.width, stage.width_rule, width(place), rounding)
        stages.append(stage.replace(width=channels, repeats=scaled_repeats(stage, depth(place), rounding)))
    if head.width is not None:
        rule = rounding.head or head.width_rule
        head = head.replace(width=scaled_width(head.width, rule, width(1.0), rounding))
    return network.replace(
        stem=stem.replace(width=scaled_width(stem.width, rounding.stem or stem.width_rule, width(0.0), rounding)),
        stages=tuple(stages),
        head=head,
        resolution=resolution,
    )


def scaled_width(width: int, rule: WidthRule, multiplier: float, rounding: ScaleRounding = RELEASED) -> int:
    """Scale and round one width according to its rule."""
    if rule == "fixed" or multiplier == 1:
        return width
    return round_width(width * (max(1.0, multiplier) if rule == "never_narrower" else multiplier), rounding)


def scaled_repeats(stage: Stage, multiplier: float, rounding: ScaleRounding = RELEASED) -> int:
    """Scale and round the repeats of one stage according to its rule."""
    if stage.depth_rule == "fixed" or multiplier == 1:
        return stage.repeats
    return round_repeats(stage.repeats * multiplier, rounding)


def scaled_resolution(network: AnyNetwork, multiplier: float, rounding: ScaleRounding = RELEASED) -> int:
    """Scale and round the resolution of a network, between its minimum and the maximum of the rounding."""
    if multiplier == 1:
        return network.resolution
    multiple = resolution_multiple(network, rounding)
    rounded = round_resolution(network.resolution * multiplier, multiple, rounding.resolution)
    highest = max_resolution(network, rounding)
    return max(min_resolution(network, rounding), rounded if highest is None else min(rounded, highest))
