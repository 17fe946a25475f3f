"""Images that are in two parts of a split: a network is tested on what it was trained on."""

from __future__ import annotations

from collections.abc import Iterable

from triscale.data.checks.duplicates import Duplicates
from triscale.data.pipeline.split import Sample, Split
from triscale.data.sources.scanned import ScannedImage
from triscale.errors import DataError
from triscale.results.data_summary import Leak, Likeness, Part

_Located = Sample | ScannedImage


def find_leaks(split: Split, copies: Duplicates) -> tuple[Leak, ...]:
    """Return one leak for each image that has copies in an earlier part, the certain ones first."""
    return leaks_between(split.train, split.val, split.test, copies)


def leaks_between(
    train: Iterable[_Located], val: Iterable[_Located], test: Iterable[_Located], copies: Duplicates
) -> tuple[Leak, ...]:
    """Return the same for parts that folders give."""
    order: tuple[Part, ...] = ("train", "val", "test")
    part_of = {image.path: part for part, images in zip(order, (train, val, test), strict=True) for image in images}
    leaks: dict[str, Leak] = {}
    groups: dict[Likeness, tuple[tuple[str, ...], ...]] = {
        "exact": copies.exact,
        "recoded": copies.groups,
        "possible": tuple((pair.first, pair.second) for pair in copies.possible),
    }
    for likeness, found in groups.items():
        for group in found:
            present = sorted((order.index(part_of[path]), path) for path in group if path in part_of)
            for number, path in present:
                earliest, original = present[0]
                if number > earliest and path not in leaks:
                    leaks[path] = Leak(path, order[number], original, order[earliest], likeness)
    return tuple(leaks.values())


def certain(leaks: tuple[Leak, ...]) -> tuple[Leak, ...]:
    """Return the leaks that are an error."""
    return tuple(leak for leak in leaks if leak.likeness != "possible")


def refuse_leaks(split: Split, leaks: tuple[Leak, ...]) -> None:
    """Refuse images that are certainly in two parts.

    Raises:
        DataError: there are some; names the first few.
    """
    found = certain(leaks)
    if found:
        are, them = ("image is a copy", "it") if len(found) == 1 else ("images are copies", "them")
        raise DataError(
            f"{len(found)} test or validation {are} of training or validation images in {split.root}: "
            f"{describe(found)}; remove {them} from one of the parts, or let {them} pass with --allow-leak"
        )


def describe(leaks: tuple[Leak, ...]) -> str:
    """Return the first few leaks in a line."""
    return "; ".join(map(str, leaks[:3])) + (f"; and {len(leaks) - 3} more" if len(leaks) > 3 else "")
