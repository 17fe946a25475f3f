"""Find leaks: images of the test or validation set that also occur, or whose group occurs, in an earlier split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from triscale.data.checks.duplicates import Duplicates
from triscale.data.pipeline.split import Sample, Split
from triscale.data.sources.scanned import ScannedImage
from triscale.errors import DataError
from triscale.results.data_summary import Leak, Match, SplitName

_Located = Sample | ScannedImage


def find_leaks(split: Split, duplicates: Duplicates, groups: Mapping[str, str] | None = None) -> tuple[Leak, ...]:
    """Return one leak for each image that has a duplicate or an image of its group in an earlier split.

    Certain leaks come first.

    Args:
        split: Which images are for training, validation and testing.
        duplicates: The duplicates among all images.
        groups: The group of each image by its path, if images are grouped.

    Example:
        >>> samples = [(Sample(name, 0),) for name in ("a.png", "b.png", "c.png")]
        >>> split = Split(
        ...     root="/photos", classes=("cat",), train=samples[0], val=samples[1], test=samples[2], seed=0, how="given"
        ... )
        >>> [str(leak) for leak in find_leaks(split, Duplicates(exact=(("a.png", "c.png"),)))]
        ['c.png = a.png (the same file)']
    """
    return find_leaks_between(split.train, split.val, split.test, duplicates, groups)


def find_leaks_between(
    train: Iterable[_Located],
    val: Iterable[_Located],
    test: Iterable[_Located],
    duplicates: Duplicates,
    groups: Mapping[str, str] | None = None,
) -> tuple[Leak, ...]:
    """Return the leaks between splits that folders give; see :func:`find_leaks`."""
    order: tuple[SplitName, ...] = ("train", "val", "test")
    split_of = {image.path: name for name, images in zip(order, (train, val, test), strict=True) for image in images}
    leaks: dict[str, Leak] = {}
    in_group: dict[str, list[str]] = {}
    for path, name in (groups or {}).items():
        in_group.setdefault(name, []).append(path)
    related: dict[Match, tuple[tuple[str, ...], ...]] = {
        "exact": duplicates.exact,
        "reencoded": duplicates.groups,
        "group": tuple(tuple(paths) for paths in in_group.values()),
        "possible": tuple((pair.first, pair.second) for pair in duplicates.possible),
    }
    for match, of_match in related.items():
        for group in of_match:
            present = sorted((order.index(split_of[path]), path) for path in group if path in split_of)
            for number, path in present:
                earliest, original = present[0]
                if number > earliest and path not in leaks:
                    leaks[path] = Leak(path, order[number], original, order[earliest], match)
    return tuple(leaks.values())


def certain(leaks: tuple[Leak, ...]) -> tuple[Leak, ...]:
    """Return the leaks whose images are certainly the same, or of one group; these are errors."""
    return tuple(leak for leak in leaks if leak.match != "possible")


def of_groups(leaks: tuple[Leak, ...]) -> tuple[Leak, ...]:
    """Return the leaks whose images differ but are of one group."""
    return tuple(leak for leak in leaks if leak.match == "group")


def refuse_leaks(root: str, leaks: tuple[Leak, ...]) -> None:
    """Check that no image is certainly in two splits, and no group.

    Args:
        root: The folder of the images, for messages.
        leaks: The leaks that were found.

    Raises:
        DataError: There are such images; the message names the first few.
    """
    grouped = of_groups(leaks)
    copies = tuple(leak for leak in certain(leaks) if leak not in grouped)
    if copies:
        are, them = ("image is a copy", "it") if len(copies) == 1 else ("images are copies", "them")
        raise DataError(
            f"{len(copies)} test or validation {are} of training or validation images in {root}: "
            f"{describe(copies)}; remove {them} from one of the splits, or accept {them} with --allow-leak"
        )
    if grouped:
        are, them = ("image is", "it") if len(grouped) == 1 else ("images are", "them")
        raise DataError(
            f"{len(grouped)} test or validation {are} of a group that has images in an earlier split of {root} "
            f"too: {describe(grouped)}; keep each group in one split, or accept {them} with --allow-leak"
        )


def describe(leaks: tuple[Leak, ...]) -> str:
    """Return the first few leaks on one line."""
    return "; ".join(map(str, leaks[:3])) + (f"; and {len(leaks) - 3} more" if len(leaks) > 3 else "")
