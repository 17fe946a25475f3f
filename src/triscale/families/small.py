"""Adapt networks to small images: remove the first strides until the last feature map is large enough."""

from __future__ import annotations

from triscale.network.input_size import InputSize
from triscale.network.spec import Network

MIN_MAP = 3
"""Minimum side of the last feature map in pixels."""


def at_resolution(network: Network, size: InputSize | int) -> Network:
    """Return a network for images of another size, named ``NAME@SIZE``.

    If the shorter side of the last feature map would be less than 3 pixels, strides are set to 1 until it is not: first
    the stem, then its pooling, then the stages in order. For EfficientNet-B0 at 32 px, these are the stem and the
    second stage, which gives 4 x 4; from 96 px, nothing changes. Widths, repeats and kernels stay.

    Args:
        network: Any network.
        size: The side of a square in pixels, at least 1, or a height and an aspect ratio.

    Example:
        >>> from triscale.families import get
        >>> network = at_resolution(get("efficientnet_b0"), 32)
        >>> network.stem.stride, [stage.stride for stage in network.stages]
        (1, [1, 1, 2, 2, 1, 2, 1])
    """
    changed = network.model_dump()
    size = size if isinstance(size, InputSize) else InputSize(size)
    changed |= {"name": f"{network.name}@{size}", "resolution": size.height, "aspect_ratio": size.aspect_ratio}
    stride = network.total_stride
    while stride > 1 and -(-size.shorter // stride) < MIN_MAP:
        stride //= _remove_first_stride(changed)
    return Network.parse(changed, f"{network.name} at {size} px")


def _remove_first_stride(network: dict[str, object]) -> int:
    """Set the first stride in a network's fields to 1, and return its old value."""
    stem, stages = network["stem"], network["stages"]
    assert isinstance(stem, dict)
    assert isinstance(stages, tuple)
    if stem["stride"] > 1:
        stride: int = stem["stride"]
        stem["stride"] = 1
        return stride
    if stem["max_pool"]:
        stem["max_pool"] = False
        return 2
    stage = next(stage for stage in stages if stage["stride"] > 1)
    stride, stage["stride"] = stage["stride"], 1
    return stride
