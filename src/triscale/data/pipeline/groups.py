"""Group the images of a scan, so that images of one recording, patient or plant stay in one split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from itertools import pairwise

from triscale.data.checks.duplicates import find_duplicates
from triscale.data.grouping import NEAR_DUPLICATES, compile_regex, gap_seconds
from triscale.data.images.capture_time import capture_time
from triscale.data.images.color import BadImage
from triscale.data.images.decode import ImageLimits
from triscale.data.options import DataOptions
from triscale.data.sources.scanned import Scan, ScannedImage
from triscale.data.sources.store import Store
from triscale.errors import DataError
from triscale.results.data_summary import GroupSummary

Progress = Callable[[int, int], None] | None
_THREADS = 8
_REPORTED = 64  # files between two reports of progress


def group_images(found: Scan, options: DataOptions, store: Store, progress: Progress = None) -> Scan:
    r"""Return a scan whose images name their group, if the options ask for groups.

    Args:
        found: The scan; a column of groups has already been read.
        options: At most one way to group.
        store: Reads the images, for their capture time.
        progress: Called with the number of files done and the total, if files are read.

    Raises:
        DataError: An image has no group, or all images are in one.

    Example:
        >>> from triscale.data.sources.store import Folder
        >>> from pathlib import Path
        >>> images = [ScannedImage(f"a/cow{i // 2}_{i}.png", 0, 8, 8, 99, "PNG") for i in range(4)]
        >>> found = Scan(root="/photos", classes=("a",), unsplit=tuple(images))
        >>> grouped = group_images(found, DataOptions(group_regex=r"(cow\d+)_"), Folder(Path("/photos")))
        >>> [image.group for image in grouped.unsplit]
        ['cow0', 'cow0', 'cow1', 'cow1']
    """
    images = [image for of_role in found.by_role.values() for image in of_role]
    if options.group is not None:
        groups, how = {image.path: image.group for image in images}, f'the column "{options.group}"'
    elif options.group_regex is not None:
        groups = _by_regex(found.root, images, options.group_regex)
        how = f'the regular expression "{options.group_regex}"'
    elif options.group_by == NEAR_DUPLICATES:
        groups, how = _by_likeness(found, images), "near duplicates"
    elif options.group_by is not None:
        gap = gap_seconds(options.group_by)
        groups = _by_time(images, _capture_times(found.root, images, store, options.limits, progress), gap)
        how = f"capture times, at most {gap:g} s apart"
    else:
        return found
    if len(images) > 1 and len(set(groups.values())) == 1:
        raise DataError(
            f"all {len(images)} images of {found.root} form one group by {how}; expected several groups, since a group "
            f"stays in one split"
        )
    changed = {
        role: tuple(replace(image, group=groups[image.path]) for image in of_role)
        for role, of_role in found.by_role.items()
    }
    return found.replace(grouped_by=how, **changed)


def summarize_groups(found: Scan) -> GroupSummary | None:
    """Return the number of groups of a scan and their sizes; None if images are not grouped.

    Args:
        found: The scan.
    """
    if not found.grouped_by:
        return None
    sizes = sorted(Counter(found.groups.values()).values())
    return GroupSummary(
        by=found.grouped_by, count=len(sizes), smallest=sizes[0], median=sizes[(len(sizes) - 1) // 2], largest=sizes[-1]
    )


def _by_regex(root: str, images: Sequence[ScannedImage], regex: str) -> dict[str, str]:
    pattern = compile_regex(regex)
    groups: dict[str, str] = {}
    without = []
    for image in images:
        match = pattern.search(image.path)
        name = (match.group(1) if pattern.groups else match.group()) if match else None
        if name:
            groups[image.path] = name
        else:
            without.append(image.path)
    if without:
        raise DataError(
            f'{len(without)} of {len(images)} images of {root} have no group, since --group-regex "{regex}" finds '
            f"none in their paths, such as {min(without)}; change it so that it finds one in every path"
        )
    return groups


def _by_likeness(found: Scan, images: Sequence[ScannedImage]) -> dict[str, str]:
    """Chain duplicates, near duplicates and possible ones; a group is named by its first path."""
    duplicates = find_duplicates(found)
    pairs = [(pair.first, pair.second) for pair in (*duplicates.reencoded, *duplicates.possible)]
    pairs += [pair for group in duplicates.exact for pair in pairwise(group)]
    return chain([image.path for image in images], pairs)


def _capture_times(
    root: str, images: Sequence[ScannedImage], store: Store, limits: ImageLimits, progress: Progress
) -> dict[str, datetime]:
    def read(image: ScannedImage) -> datetime | None:
        try:
            return capture_time(store.read(image.path, limits), limits)
        except BadImage:
            return None

    times: dict[str, datetime] = {}
    without = []
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="times") as pool:
        for start in range(0, len(images), _REPORTED):
            if progress:
                progress(start, len(images))
            some = images[start : start + _REPORTED]
            for image, taken in zip(some, pool.map(read, some), strict=True):
                if taken is None:
                    without.append(image.path)
                else:
                    times[image.path] = taken
    if progress:
        progress(len(images), len(images))
    if without:
        raise DataError(
            f"{len(without)} of {len(images)} images of {root} hold no capture time (EXIF DateTimeOriginal), such as "
            f"{min(without)}; take these images out, or group by --group-regex or --group-by {NEAR_DUPLICATES}"
        )
    return times


def _by_time(images: Sequence[ScannedImage], times: dict[str, datetime], gap: float) -> dict[str, str]:
    """Chain images of one folder, and images of one class, that were captured within a gap of each other."""

    def pairs() -> Iterator[tuple[str, str]]:
        together: dict[object, list[str]] = {}
        for image in images:
            together.setdefault(image.label, []).append(image.path)
            together.setdefault(image.path.rpartition("/")[0], []).append(image.path)
        for paths in together.values():
            in_order = sorted(paths, key=lambda path: (times[path], path))
            for one, other in pairwise(in_order):
                if (times[other] - times[one]).total_seconds() <= gap:
                    yield one, other

    return chain([image.path for image in images], pairs())


def chain(names: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return, for each name, the first name of all that pairs connect it to.

    Args:
        names: All names.
        pairs: Names that belong together.

    Example:
        >>> chain("abcd", [("d", "b"), ("b", "c")])
        {'a': 'a', 'b': 'b', 'c': 'b', 'd': 'b'}
    """
    first = {name: name for name in names}

    def find(name: str) -> str:
        while first[name] != name:
            first[name] = name = first[first[name]]
        return name

    for one, other in pairs:
        low, high = sorted((find(one), find(other)))
        first[high] = low
    return {name: find(name) for name in first}
