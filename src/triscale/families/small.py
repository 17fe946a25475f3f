"""Networks for small images: the strides that would leave nothing of the map are taken out, the first ones first."""

from __future__ import annotations

from triscale.network.spec import Network

MIN_MAP = 3
"""Pixels along a side of the last map, at least."""


def at_resolution(network: Network, resolution: int) -> Network:
    """Return a network for images of so many pixels along a side, under the name ``NAME@PIXELS``.

    Where its strides leave a last map smaller than 3 x 3 pixels, strides become 1 until they do not: that of the stem,
    the pool after it, then those of the stages from the first on. For EfficientNet-B0 at 32 px these are the stem and
    the second stage, which leaves 4 x 4; from 96 px on nothing is changed. Widths, repeats and kernels stay.

    Args:
        network: any.
        resolution: in pixels, at least 1.
    """
    changed = network.model_dump()
    changed["name"], changed["resolution"] = f"{network.name}@{resolution}", resolution
    stride = network.total_stride
    while stride > 1 and -(-resolution // stride) < MIN_MAP:
        stride //= _take_out(changed)
    return Network.parse(changed, f"{network.name} at {resolution} px")


def _take_out(network: dict[str, object]) -> int:
    """Take the first stride out of a network's fields, and return it."""
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
