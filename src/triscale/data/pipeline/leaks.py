"""Find leaks: images of the test or validation set that also occur in an earlier split."""

from __future__ import annotations

from collections.abc import Iterable

from triscale.data.checks.duplicates import Duplicates
from triscale.data.pipeline.split import Sample, Split
from triscale.data.sources.scanned import ScannedImage
from triscale.errors import DataError
from triscale.results.data_summary import Leak, Match, SplitName

_Located = Sample | ScannedImage


def find_leaks(split: Split, duplicates: Duplicates) -> tuple[Leak, ...]:
    """Return one leak for each image that has a duplicate in an earlier split, certain ones first.

    Args:
        split: Which images are for training, validation and testing.
        duplicates: The duplicates among all images.

    Example:
        >>> samples = [(Sample(name, 0),) for name in ("a.png", "b.png", "c.png")]
        >>> split = Split(
        ...     root="/photos", classes=("cat",), train=samples[0], val=samples[1], test=samples[2], seed=0, how="given"
        ... )
        >>> [str(leak) for leak in find_leaks(split, Duplicates(exact=(("a.png", "c.png"),)))]
        ['c.png = a.png (the same file)']
    """
    return find_leaks_between(split.train, split.val, split.test, duplicates)


def find_leaks_between(
    train: Iterable[_Located], val: Iterable[_Located], test: Iterable[_Located], duplicates: Duplicates
) -> tuple[Leak, ...]:
    """Return the leaks between splits that folders give; see :func:`find_leaks`."""
    order: tuple[SplitName, ...] = ("train", "val", "test")
    split_of = {image.path: name for name, images in zip(order, (train, val, test), strict=True) for image in images}
    leaks: dict[str, Leak] = {}
    groups: dict[Match, tuple[tuple[str, ...], ...]] = {
        "exact": duplicates.exact,
        "reencoded": duplicates.groups,
        "possible": tuple((pair.first, pair.second) for pair in duplicates.possible),
    }
    for match, of_match in groups.items():
        for group in of_match:
            present = sorted((order.index(split_of[path]), path) for path in group if path in split_of)
            for number, path in present:
                earliest, original = present[0]
                if number > earliest and path not in leaks:
                    leaks[path] = Leak(path, order[number], original, order[earliest], match)
    return tuple(leaks.values())


def certain(leaks: tuple[Leak, ...]) -> tuple[Leak, ...]:
    """Return the leaks whose images are certainly the same; these are errors."""
    return tuple(leak for leak in leaks if leak.match != "possible")


def refuse_leaks(split: Split, leaks: tuple[Leak, ...]) -> None:
    """Check that no image is certainly in two splits.

    Raises:
        DataError: There are such images; the message names the first few.
    """
    errors = certain(leaks)
    if errors:
        are, them = ("image is a copy", "it") if len(errors) == 1 else ("images are copies", "them")
        raise DataError(
            f"{len(errors)} test or validation {are} of training or validation images in {split.root}: "
            f"{describe(errors)}; remove {them} from one of the splits, or accept {them} with --allow-leak"
        )


def describe(leaks: tuple[Leak, ...]) -> str:
    """Return the first few leaks on one line."""
    return "; ".join(map(str, leaks[:3])) + (f"; and {len(leaks) - 3} more" if len(leaks) > 3 else "")
