"""Say how the values of images with 16 bits per channel are read, and what is lost by that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from triscale.data.images.deep import ValueRange, bit_depth_of
from triscale.data.options import DataOptions

FULL_DEPTH = 16
MIN_GRAY_LEVELS = 64
"""With fewer of the 256 gray levels, bands are visible in smooth areas."""
FEW = 0.1
"""Share of the images whose values may be errors if those of all others use fewer bits."""
_MIN_IMAGES = 4


def depth_notes(ranges: Sequence[tuple[str, ValueRange]], options: DataOptions) -> list[str]:
    """Return sentences if 16-bit images are read with fewer bits, a few need more, or little of the range is used.

    Args:
        ranges: The path and the range of the values of each image; others than those with 16 bits are left out.
        options: Gives the requested bit depth.

    Example:
        >>> depth_notes([("a.png", ValueRange(0, 4000))], DataOptions())[0].partition(";")[0]
        'values of 16-bit images reach 4000 of 65535: they are read as 12-bit values'
    """
    deep = [(path, values) for path, values in ranges if values.highest]
    if not deep:
        return []
    highest = max(values.highest for _, values in deep)
    measured = bit_depth_of(highest)
    depth = options.bit_depth or measured
    notes, higher = [], _few_higher(deep)
    if options.bit_depth is None:
        if measured < FULL_DEPTH:
            notes.append(
                f"values of 16-bit images reach {highest} of 65535: they are read as {measured}-bit values; "
                f"--bit-depth 16 takes the whole range instead"
            )
        notes += higher
    elif depth < measured:
        notes.append(f"values of 16-bit images reach {highest}: those above {(1 << depth) - 1} become white")
    elif depth > measured:
        notes.append(
            f"values of 16-bit images reach only {highest} of {(1 << depth) - 1}: they are dark; "
            f"--bit-depth {measured} fits"
        )
    if depth > measured or (higher and depth == measured):
        return notes  # which say why the images are dark
    return [*notes, *_few_levels([values for _, values in deep], depth)]


def _few_higher(deep: Sequence[tuple[str, ValueRange]]) -> list[str]:
    """Return a sentence if a few images need more bits than all others: a single hot pixel darkens every image."""
    needed = Counter(bit_depth_of(values.highest) for _, values in deep)
    few = max(1, int(FEW * len(deep)))
    usual = next(depth for depth in sorted(needed) if sum(needed[other] for other in needed if other > depth) <= few)
    higher = [(path, values.highest) for path, values in deep if bit_depth_of(values.highest) > usual]
    if not higher or len(deep) < _MIN_IMAGES:
        return []
    path, value = max(higher, key=lambda one: one[1])
    depth, images = bit_depth_of(value), "image has" if len(higher) == 1 else "images have"
    return [
        (
            f"only {len(higher)} of {len(deep)} 16-bit {images} values of more than {usual} bits (up to {value} in "
            f"{path}), and all images are darker for it; if they are errors such as hot pixels, read {usual} of "
            f"the {depth} bits with --bit-depth {usual}, which makes higher values white"
        )
    ]


def _few_levels(ranges: Sequence[ValueRange], depth: int) -> list[str]:
    """Return a sentence if nearly all values fall on a few of the 256 gray levels, whatever single images hold."""
    skipped = len(ranges) // 20
    low = sorted(values.lowest for values in ranges)[skipped]
    high = sorted(values.highest for values in ranges)[-1 - skipped]
    levels = min(255, high >> (depth - 8)) - min(255, low >> (depth - 8)) + 1
    if levels >= MIN_GRAY_LEVELS:
        return []
    return [
        (
            f"values of 16-bit images lie between {low} and {high}, which leaves {levels} of 256 gray levels at "
            f"{depth} bits, so that the images have little contrast; subtract the offset, or stretch the values, and "
            f"save the images again"
        )
    ]
