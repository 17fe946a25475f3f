"""Find class names that are probably mistakes: missing values, spellings of one name, identifiers, measured values."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence

from triscale.data.invisible import invisible_in

_MISSING = {"", "nan", "null", "none", "nil", "na", "n/a", "#n/a", "<na>", "nat", "undefined", "missing"}
"""How tables spell a missing value, in lower case."""

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?", re.IGNORECASE)
_MIN_CLASSES = 5
"""Fewer classes are neither identifiers nor measured values."""
_MAX_SHOWN = 5


def name_warnings(classes: Sequence[str], num_images: int) -> list[str]:
    """Return a sentence for each kind of doubtful class name.

    Args:
        classes: The class names.
        num_images: Number of training images.

    Example:
        >>> name_warnings(("cat", "nan", "Cat "), 60)[0]
        'the class name "nan" looks like a missing label; leave these images out or label them'
    """
    return [
        *_missing(classes),
        *_spellings(classes),
        *_spaces(classes),
        *_controls(classes),
        *_many(classes, num_images),
    ]


def refuse_measured_values(classes: Sequence[str], num_images: int) -> list[str]:
    """Return a sentence if class names are decimal numbers that are nearly all different.

    Args:
        classes: The class names.
        num_images: Number of training images.

    Example:
        >>> len(refuse_measured_values([f"{number / 7:.3f}" for number in range(20)], 20))
        1
    """
    numbers = [number_of(name) for name in classes]
    if any(number is None for number in numbers) or not _are_nearly_all_different(classes, num_images):
        return []
    if sum(number is not None and number != round(number) for number in numbers) < len(numbers) / 2:
        return []
    shown = _first(classes)
    return [
        (
            f"the labels are decimal numbers that are nearly all different ({shown}): regression and ordinal "
            f"targets are out of scope, since Triscale trains classifiers; give a few classes, such as ranges of the "
            f"values"
        )
    ]


def number_of(name: str) -> float | None:
    """Return the number that a class name spells, with a decimal point or comma; None if it is none.

    Example:
        >>> number_of("01"), number_of("0,5"), number_of("cat")
        (1.0, 0.5, None)
    """
    if not _NUMBER.fullmatch(name.strip()):
        return None
    value = float(name.strip().replace(",", "."))
    return value if math.isfinite(value) else None


def quoted(name: str) -> str:
    r"""Return a class name in quotes, with control characters as escapes.

    Example:
        >>> quoted("a\nb")
        '"a\\nb"'
    """
    escaped = "".join(character if character.isprintable() else repr(character)[1:-1] for character in name)
    return f'"{escaped}"'


def _missing(classes: Sequence[str]) -> list[str]:
    names = [name for name in classes if name.strip().lower() in _MISSING]
    if not names:
        return []
    if len(names) == 1:
        return [f"the class name {quoted(names[0])} looks like a missing label; leave these images out or label them"]
    return [f"the class names {_first(names)} look like missing labels; leave these images out or label them"]


def _spellings(classes: Sequence[str]) -> list[str]:
    by_number = _groups((number, name) for name in classes if (number := number_of(name)) is not None)
    by_text = _groups((_folded(name), name) for name in classes if number_of(name) is None)
    more = len(by_number[_MAX_SHOWN:]) + len(by_text[_MAX_SHOWN:])
    return [
        *(
            f"the class names {_first(names)} are the same number; merge them if they mean the same"
            for names in by_number[:_MAX_SHOWN]
        ),
        *(
            f"the class names {_first(names)} differ only in case, spaces or underscores; merge them if they mean the "
            f"same"
            for names in by_text[:_MAX_SHOWN]
        ),
        *([f"{more} more groups of class names are spelled alike"] if more else []),
    ]


def _spaces(classes: Sequence[str]) -> list[str]:
    names = [name for name in classes if name != name.strip() and name.strip()]
    return [f"class names begin or end with a space: {_first(names)}; remove it"] if names else []


def _controls(classes: Sequence[str]) -> list[str]:
    found = {name: invisible for name in classes if (invisible := invisible_in(name)) is not None}
    if not found:
        return []
    characters = ", ".join(sorted(set(found.values()))[:_MAX_SHOWN])
    return [
        (
            f"class names hold line breaks, control characters or invisible characters ({characters}): "
            f"{_first(list(found))}; rename them"
        )
    ]


def _many(classes: Sequence[str], num_images: int) -> list[str]:
    if not _are_nearly_all_different(classes, num_images) or refuse_measured_values(classes, num_images):
        return []
    return [
        (
            f"there are {len(classes)} classes for {num_images} training images ({_first(classes)}), so that the "
            f"labels look like identifiers or measured values, not like classes"
        )
    ]


def _are_nearly_all_different(classes: Sequence[str], num_images: int) -> bool:
    return len(classes) >= _MIN_CLASSES and 3 * len(classes) > num_images


def _folded(name: str) -> str:
    return re.sub(r"[\s_]+", "", unicodedata.normalize("NFKC", name).casefold())


def _groups(keyed: Iterable[tuple[object, str]]) -> list[list[str]]:
    """Return the names that share a key with another one."""
    groups: dict[object, list[str]] = {}
    for key, name in keyed:
        groups.setdefault(key, []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _first(names: Sequence[str]) -> str:
    shown = ", ".join(quoted(name) for name in names[:_MAX_SHOWN])
    return shown + (f" and {len(names) - _MAX_SHOWN} more" if len(names) > _MAX_SHOWN else "")
