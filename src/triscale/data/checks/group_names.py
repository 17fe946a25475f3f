"""Notice file names that look like several images of one recording, patient or plant, such as ``patient12_003.png``.

A name is read from its end, as a prefix and up to four counters, each of which a word may precede::

    patient12_003             patient12 | 003
    cow-07_frame_0001         cow-07    | frame_0001
    slide3_x0_y256            slide3    | x0 | y256

Plain numbering (``cat.1.jpg`` to ``cat.900.jpg``, ``IMG_0001.jpg``) has one prefix per class, which says nothing. Nor
do prefixes without a number (breeds, cameras), dates, and parts of a data set (``batch_2``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from triscale.data.sources.scanned import Scan, ScannedImage

MIN_IMAGES, MIN_GROUPS = 12, 4
"""Fewer images or groups are too little evidence."""

_MIN_MATCHED = 0.8
"""Minimum share of the images whose names have the form, and of the groups whose names have a number."""
_MIN_SHARE = 0.5
"""Minimum share of the images that are in classes of several groups, and whose counter counts within its group."""
_MIN_PER_GROUP = 1.8
"""Minimum mean number of images of a class in a group."""

_MAX_COUNTERS = 4
_SAMPLE = 200
"""Number of images whose names are tried before all are."""
_COUNTER = r"(?:[-_. ]+[A-Za-z]+)?[-_. ]*[-_. (]\(?([A-Za-z]*[0-9][A-Za-z0-9]*)\)?"
_END = r"\.[^./]+$"

_PARTS = "data|dataset|part|batch|fold|set|subset|split|chunk|shard|archive|train|training|test|val|valid|v|version"
_WORDNET = "^n[0-9]{8}$"  # identifiers of ImageNet's classes
_IS_PART = re.compile(rf"(^|[^a-z])({_PARTS})[^a-z]*$|{_WORDNET}", re.IGNORECASE)
_IS_PART_FOLDER = re.compile(rf"(^|[^a-z])({_PARTS}|images?|imgs?|jpe?gs?|pngs?|photos?)[^a-z]*$|{_WORDNET}", re.I)
_DATE = re.compile(r"(?<![0-9])(19|20)[0-9]{2}([-_.]?(0[1-9]|1[0-2])([-_.]?([0-2][0-9]|3[01]))?)?(?![0-9])")


class _NameForm(NamedTuple):
    """A form of names.

    Attributes:
        regex: Finds the group in a path.
        counted: Also finds the first counter after it, if there must be one.
        parts: What names of parts of a data set look like; None if any group counts.
    """

    regex: str
    counted: re.Pattern[str] | None
    parts: re.Pattern[str] | None


def group_suggestion(found: Scan) -> str | None:
    """Return a sentence with the option that groups images as their names suggest; None if they suggest nothing.

    Nothing is suggested if images are grouped already, or if training, validation and test are given and no
    suggested group lies in two of them.

    Args:
        found: The dataset.

    Example:
        >>> images = [ScannedImage(f"a/cow{i // 4}_{i % 4}.jpg", i // 12, 8, 8, 99, "JPEG") for i in range(24)]
        >>> group_suggestion(Scan(root="/photos", classes=("a", "b"), unsplit=tuple(images)))[:60]
        'file names suggest 6 groups of images (such as cow0, with 4)'
    """
    if found.grouped_by:
        return None
    images = [image for of_role in found.by_role.values() for image in of_role]
    regex = suggested_regex(images)
    if regex is None:
        return None
    groups_of = {role: _groups(regex, [i.path for i in of_role]) or [] for role, of_role in found.by_role.items()}
    sizes = Counter(group for groups in groups_of.values() for group in groups)
    is_given = found.train and found.val and found.test
    if is_given and sum(len(set(groups)) for groups in groups_of.values()) == len(sizes):
        return None
    name, size = min(sizes.items(), key=lambda item: (-item[1], item[0]))
    return (
        f"file names suggest {len(sizes)} groups of images (such as {name}, with {size}); if the images of a group "
        f"show the same thing, keep them in one split, since the accuracy is overestimated otherwise: "
        f'--group-regex "{regex}"'
    )


def suggested_regex(images: Sequence[ScannedImage]) -> str | None:
    """Return a regular expression for ``--group-regex`` that finds a group in each path, or None.

    Args:
        images: All images, with their paths and labels.

    Example:
        >>> images = [ScannedImage(f"a/{i}.jpg", 0, 8, 8, 99, "JPEG") for i in range(100)]
        >>> suggested_regex(images) is None
        True
    """
    if len(images) < MIN_IMAGES:
        return None
    paths = [image.path for image in images]
    for form in _forms():
        if _finds_groups(images, form):
            loose = form.regex.replace("([^/]+?)", "([^/]+?)(?:").replace(_END, f")?{_END}")  # others: one group each
            for regex in (form.regex, loose):
                if (groups := _groups(regex, paths)) is not None:
                    return next((short for short in _short_forms() if _groups(short, paths) == groups), regex)
    return None


def _short_forms() -> Iterator[str]:
    """Yield expressions that are easier to read: all before or from the n-th separator, counted from either end."""
    for separator in "_-. ":
        for number in (1, 2, 3):
            part = f"{separator}[^{separator}/]+" if separator != "." else r"\.[^./]+"
            yield f"([^/]+){part * number}$"
        start = f"[^{separator}/]+"
        for number in (0, 1, 2):
            between = separator if separator != "." else r"\."
            yield f"({start}{(between + start) * number}){between}[^/]+$"


def _forms() -> Iterator[_NameForm]:
    """Yield the forms of names, those of larger groups first."""
    yield _NameForm(r"([^/]+)[._](?:jpe?g|png|bmp|webp)\.rf\.[^/]+$", None, None)  # augmented by Roboflow
    for depth in (3, 2, 1):
        yield _NameForm(rf"([^/]+)(?:/[^/]+){{{depth}}}$" if depth > 1 else "([^/]+)/[^/]+$", None, _IS_PART_FOLDER)
    plain = _COUNTER.replace("([A-Z", "[A-Z").replace("9]*)", "9]*")
    for number in range(_MAX_COUNTERS, 0, -1):
        rest = f"(?:{plain}){{{number - 1}}}" if number > 1 else ""
        all_counters = f"(?:{plain}){{{number}}}" if number > 1 else plain
        counted = re.compile(f"([^/]+?){_COUNTER}{rest}{_END}")
        yield _NameForm(f"([^/]+?){all_counters}{_END}", counted, _IS_PART)
    yield _NameForm(rf"([^/]*[0-9])[A-Za-z]{_END}", re.compile(rf"([^/]*[0-9])([A-Za-z]){_END}"), _IS_PART)


def _finds_groups(images: Sequence[ScannedImage], form: _NameForm) -> bool:
    pattern = form.counted or re.compile(form.regex)
    sample = images[:: len(images) // _SAMPLE + 1]
    if sum(pattern.search(image.path) is not None for image in sample) < _MIN_SHARE * len(sample):
        return False
    matches = [(image.label, match) for image in images if (match := pattern.search(image.path))]
    groups = Counter(match.group(1) for _, match in matches)
    if len(matches) < _MIN_MATCHED * len(images) or len(groups) < MIN_GROUPS:
        return False
    of_class = Counter((label, match.group(1)) for label, match in matches)
    divided = {label for label, number in Counter(label for label, _ in of_class).items() if number > 1}
    if sum(label in divided for label, _ in matches) < _MIN_SHARE * len(matches):
        return False
    if form.parts is None:
        return len(matches) > len(of_class)
    if len(matches) < _MIN_PER_GROUP * len(of_class):
        return False
    if sum(_is_numbered(group, form.parts) for group in groups) < _MIN_MATCHED * len(groups):
        return False
    return form.counted is None or _count_within_groups([match for _, match in matches])


def _is_numbered(group: str, parts: re.Pattern[str]) -> bool:
    """Return whether the name of a group has a number that neither is a date nor numbers the parts of a data set."""
    date = _DATE.search(group)
    before = group if date is None else group[: date.start()]
    return any(character.isdigit() for character in before) and not parts.search(group)


def _count_within_groups(matches: Sequence[re.Match[str]]) -> bool:
    """Return whether the counters of most images occur in other groups too, or are consecutive within the group."""
    counters: dict[str, list[str]] = {}
    for match in matches:
        counters.setdefault(match.group(1), []).append(match.group(2).lower())
    occurs = Counter(counter for of_group in counters.values() for counter in set(of_group))
    repeated = sum(occurs[counter] > 1 for of_group in counters.values() for counter in of_group)
    consecutive = 0
    for of_group in counters.values():
        numbers = sorted(
            {int(digits) for counter in of_group if (digits := re.sub(r"^[a-z]*", "", counter)).isdecimal()}
        )
        if len(numbers) > 1 and numbers[-1] - numbers[0] < 3 * len(numbers):
            consecutive += len(of_group)
    return max(repeated, consecutive) >= _MIN_SHARE * len(matches)


def _groups(regex: str, paths: Sequence[str]) -> list[str] | None:
    """Return the group of each path; None if one has none."""
    pattern = re.compile(regex)
    matches = [pattern.search(path) for path in paths]
    return None if None in matches else [match.group(1) for match in matches if match is not None]
