"""Find duplicate images in a dataset: files with the same bytes, and near duplicates with the same content."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from triscale.data.checks.near_duplicates import find_similar
from triscale.data.images.fingerprint import unpack
from triscale.data.sources.scanned import Scan
from triscale.record import Record


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class DuplicatePair:
    """Two images that look the same; ``difference`` is the RMS difference of their luma, in levels of 255."""

    first: str
    second: str
    difference: float


class Duplicates(Record):
    """The duplicate images of a dataset, by their paths.

    Attributes:
        exact: Groups of files with the same bytes, sorted.
        reencoded: Pairs of files that hold the same image re-encoded, rescaled or converted to gray; the first of
            several files with the same bytes represents them all.
        possible: Pairs that differ by more than that, for example in color.

    Example:
        >>> pair = DuplicatePair("b", "c", 1.0)
        >>> Duplicates(exact=(("a", "b"),), reencoded=(pair,)).groups
        (('a', 'b', 'c'),)
    """

    kind_name: ClassVar[str] = "duplicates"
    schema_number: ClassVar[int] = 2

    exact: tuple[tuple[str, ...], ...] = ()
    reencoded: tuple[DuplicatePair, ...] = ()
    possible: tuple[DuplicatePair, ...] = ()

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Groups of two or more files that are certainly the same image, sorted."""
        return _merge([*self.exact, *((pair.first, pair.second) for pair in self.reencoded)])


def contradictions(scan: Scan, duplicates: Duplicates) -> tuple[tuple[str, ...], ...]:
    """Return the groups of duplicates whose images have more than one class."""
    label = {image.path: image.label for of_role in scan.by_role.values() for image in of_role}
    return tuple(group for group in duplicates.groups if len({label[path] for path in group}) > 1)


def find_duplicates(scan: Scan) -> Duplicates:
    """Find the duplicate images of a dataset, across all splits and classes.

    Files with the same SHA-256 are exact duplicates. The others are compared by their fingerprints, see
    :mod:`triscale.data.checks.near_duplicates`.

    Args:
        scan: The dataset with the SHA-256 and the fingerprint of every image.
    """
    by_content: dict[str, list[str]] = {}
    images = {image.path: image for in_split in scan.by_role.values() for image in in_split if image.sha256}
    for path in sorted(images):
        by_content.setdefault(images[path].sha256, []).append(path)
    different = [images[paths[0]] for paths in by_content.values()]
    pairs: dict[bool, list[DuplicatePair]] = {True: [], False: []}
    if different:
        sizes = np.array([(image.width, image.height) for image in different], np.float64)
        for one, other, difference, certain in find_similar(unpack([image.fingerprint for image in different]), sizes):
            pairs[certain].append(DuplicatePair(different[one].path, different[other].path, difference))
    return Duplicates(
        exact=tuple(tuple(paths) for paths in by_content.values() if len(paths) > 1),
        reencoded=tuple(pairs[True]),
        possible=tuple(pairs[False]),
    )


def _merge(groups: Iterable[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """Merge the groups that have a member in common."""
    group_of: dict[str, list[str]] = {}
    for group in groups:
        known = {id(group_of[path]): group_of[path] for path in group if path in group_of}
        merged = [path for members in known.values() for path in members]
        merged += [path for path in group if path not in group_of]
        group_of.update(dict.fromkeys(merged, merged))
    return tuple(sorted(tuple(sorted(group)) for group in {id(group): group for group in group_of.values()}.values()))
