"""Divide images so that the images of a group stay together, stratified by class as well as the groups permit.

An image with several labels is like a group that holds images of several classes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from triscale.data.pipeline.groups import chain
from triscale.data.sources.scanned import Scan, ScannedImage
from triscale.errors import DataError

_NONE = -1
"""Stands for an image without labels, where images have any number of them."""

ATTEMPTS = 50
"""Number of orders of the groups that are tried until every set has images of every class."""


@dataclass(frozen=True, slots=True, eq=False)
class SplitUnit:
    """Images that stay together.

    Attributes:
        key: Decides the order; the name of the group, or the first path without groups.
        images: The images, sorted by path.
        counts: The number of images of each class.
    """

    key: str
    images: tuple[ScannedImage, ...]
    counts: Counter[int]


@dataclass(slots=True)
class UnitSet:
    """A set of units and the number of its images of each class."""

    units: list[SplitUnit] = field(default_factory=list)
    counts: Counter[int] = field(default_factory=Counter)

    def add(self, unit: SplitUnit) -> None:
        """Add a unit."""
        self.units.append(unit)
        self.counts.update(unit.counts)

    @property
    def images(self) -> list[ScannedImage]:
        """The images of all units."""
        return [image for unit in self.units for image in unit.images]


def units_of(images: Iterable[ScannedImage], same: Mapping[str, str]) -> list[SplitUnit]:
    """Return what must stay together: the images of a group and duplicates, and groups that share duplicates.

    Args:
        images: The images; without groups, only duplicates stay together.
        same: The first of the duplicates of an image that has any.

    Example:
        >>> images = [ScannedImage(f"{i}.png", 0, 8, 8, 99, "PNG", group="ab"[i % 2]) for i in range(4)]
        >>> [(unit.key, len(unit.images)) for unit in units_of(images, {})]
        [('a', 2), ('b', 2)]
    """
    in_order = sorted(images, key=lambda image: image.path)
    names = {image.path: f"g{image.group}" if image.group else f"p{image.path}" for image in in_order}
    by_original: dict[str, str] = {}
    pairs = []
    for image in in_order:
        original = same.get(image.path)
        if original is not None:
            pairs.append((by_original.setdefault(original, names[image.path]), names[image.path]))
    first = chain(names.values(), pairs)
    together: dict[str, list[ScannedImage]] = {}
    for image in in_order:
        together.setdefault(first[names[image.path]], []).append(image)
    return [
        SplitUnit(name[1:], tuple(of_unit), Counter(label for image in of_unit for label in image.labels or (_NONE,)))
        for name, of_unit in together.items()
    ]


def in_order_of(units: Iterable[SplitUnit], seed: int | str, attempt: int = 0) -> list[SplitUnit]:
    """Return units in an order that depends only on a seed and their keys.

    Args:
        units: The units.
        seed: Another seed gives another order.
        attempt: So does another attempt.
    """
    prefix = f"{seed}" if attempt == 0 else f"{seed}/{attempt}"
    return sorted(units, key=lambda unit: hashlib.sha256(f"{prefix}/{unit.key}".encode()).digest())


def divide_groups(
    scan: Scan, images: Sequence[ScannedImage], same: Mapping[str, str], shares: Sequence[float], seed: int | str
) -> list[list[ScannedImage]]:
    """Divide images into one set for each share and the rest, in whole groups; every set has images of every class.

    Groups are ordered by ``sha256(f"{seed}/{group}")``. The first ones are taken that leave every class within its
    share, then those that bring the classes closer to their shares, then one for each class that has no image yet. If
    groups of several classes leave a class without images in one of the sets, other orders are tried.

    Args:
        scan: The dataset, for its classes and what its groups follow from.
        images: The images to divide.
        same: The first of the duplicates of an image that has any.
        shares: Fraction of every class for each set, of what the earlier ones leave.
        seed: Another seed gives other sets.

    Raises:
        DataError: A class has images of too few groups.
    """
    units = units_of(images, same)
    needed = len(shares) + 1
    check_groups(scan, units, needed, "training, validation and test need" if needed == 3 else "two splits need")
    failed = 0
    for attempt in range(ATTEMPTS):
        rest, sets = in_order_of(units, seed, attempt), []
        for number, share in enumerate(shares):
            taken, rest, missing = _take(rest, share, len(shares) - number)
            if missing is not None:
                failed = missing
                break
            sets.append(taken.images)
        else:
            return [*sets, [image for unit in rest for image in unit.images]]
    if not scan.grouped_by:
        raise DataError(
            f"the images with the label {scan.classes[failed]} in {scan.root} also have rare other labels, so that no "
            f"division was found in which each of {needed} splits has images of every label; add images, or leave out "
            f"a rare label"
        )
    raise DataError(
        f"the groups of class {scan.classes[failed]} in {scan.root} (by {scan.grouped_by}) also hold other classes, so "
        f"that no division was found in which each of {needed} splits has images of every class; add images of other "
        f"groups, or group by something finer"
    )


def check_groups(
    scan: Scan, units: Iterable[SplitUnit], needed: int, what: str, remedy: str = "leave such a class out"
) -> None:
    """Check that every class has images of enough groups.

    Args:
        scan: The dataset.
        units: What stays together.
        needed: Minimum number of groups of a class.
        what: What needs them, with a verb, for the message.
        remedy: What else the user can do.

    Raises:
        DataError: A class has images of fewer groups; the message names the first few.
    """
    number = Counter(label for unit in units for label in unit.counts)
    few = [label for label in range(len(scan.classes)) if number[label] < needed]
    if not few:
        return
    thing, of, kept = ("image", "", "not counting copies")
    if scan.grouped_by:
        thing, of, kept = ("group", "images of ", f"since a group (by {scan.grouped_by}) stays in one split")
    named = ", ".join(
        f"class {scan.classes[label]} has {of}{number[label]} {thing}{'' if number[label] == 1 else 's'} only"
        for label in few[:3]
    )
    more = f" and {len(few) - 3} more classes likewise" if len(few) > 3 else ""
    others = " of other groups" if scan.grouped_by else ""
    raise DataError(
        f"{named}{more}; {what} at least {needed} {thing}s of every class, {kept}: add images{others}, or {remedy}"
    )


def _take(ordered: Sequence[SplitUnit], share: float, keep: int) -> tuple[UnitSet, list[SplitUnit], int | None]:
    """Take a share of every class, leaving at least ``keep`` groups of each; also return a class that has no image."""
    totals: Counter[int] = Counter()
    left: Counter[int] = Counter()
    smallest: dict[int, int] = {}
    for unit in ordered:
        totals.update(unit.counts)
        left.update(unit.counts.keys())
        for label, count in unit.counts.items():
            smallest[label] = min(count, smallest.get(label, count))
    groups = Counter(left)
    room = {label: max(smallest[label], round(share * total)) for label, total in totals.items()}
    taken, chosen = UnitSet(), set[SplitUnit]()

    def fits(unit: SplitUnit) -> bool:
        return all(taken.counts[label] + count <= room[label] for label, count in unit.counts.items())

    def change(unit: SplitUnit) -> float:
        """Return by how much the squared distance to the shares grows, relative to the sizes of the classes."""
        return sum(
            count * (count + 2 * (taken.counts[label] - share * totals[label])) / totals[label] ** 2
            for label, count in unit.counts.items()
        )

    def is_free(unit: SplitUnit) -> bool:
        return unit not in chosen and all(left[label] > keep for label in unit.counts)

    def take(unit: SplitUnit) -> None:
        taken.add(unit)
        chosen.add(unit)
        left.subtract(unit.counts.keys())

    for accepts in (fits, lambda unit: change(unit) < 0):
        for unit in ordered:
            if is_free(unit) and accepts(unit):
                take(unit)
    missing = None
    for label in sorted(totals, key=lambda label: (groups[label], label)):
        if not taken.counts[label]:
            free = [unit for unit in ordered if label in unit.counts and is_free(unit)]
            if free:
                take(min(free, key=change))
            elif label != _NONE:
                missing = label
    return taken, [unit for unit in ordered if unit not in chosen], missing
