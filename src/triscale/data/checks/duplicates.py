"""Images that a set holds more than once: the same bytes, or the same look after another encoding."""

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
    """Two images that look the same; ``difference`` is of their brightness, in levels of 0 to 255."""

    first: str
    second: str
    difference: float


class Duplicates(Record):
    """The images that a set holds more than once, by their paths.

    Attributes:
        exact: groups of files with the same bytes, sorted.
        recoded: pairs of files that are the same image encoded anew, rescaled or made grey; of files with the same
            bytes, the first stands for all.
        possible: pairs that look the same but for more than that, such as other colors.
    """

    kind_name: ClassVar[str] = "copies"

    exact: tuple[tuple[str, ...], ...] = ()
    recoded: tuple[DuplicatePair, ...] = ()
    possible: tuple[DuplicatePair, ...] = ()

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The files that are certainly the same image, in groups of two and more, sorted."""
        return _joined([*self.exact, *((pair.first, pair.second) for pair in self.recoded)])


def find_duplicates(scan: Scan) -> Duplicates:
    """Find the images that a set holds more than once, in whatever part and class.

    Files with the same SHA-256 are exact copies. For the others, :mod:`triscale.data.checks.near_duplicates` says what
    looks the same.
    """
    by_content: dict[str, list[str]] = {}
    images = {image.path: image for found in scan.by_role.values() for image in found if image.sha256}
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
        recoded=tuple(pairs[True]),
        possible=tuple(pairs[False]),
    )


def _joined(groups: Iterable[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """Join the groups that have a member in common."""
    of: dict[str, list[str]] = {}
    for group in groups:
        parts = {id(of[path]): of[path] for path in group if path in of}
        joined = [path for part in parts.values() for path in part]
        joined += [path for path in group if path not in of]
        of.update(dict.fromkeys(joined, joined))
    return tuple(sorted(tuple(sorted(group)) for group in {id(group): group for group in of.values()}.values()))
