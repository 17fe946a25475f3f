"""What makes a folder of images unfit for training, each with its sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from triscale.data.images.decode import FORMATS
from triscale.data.sources.scanned import Scan
from triscale.data.sources.source import Layout, Role
from triscale.errors import DataError
from triscale.results.data_summary import BadFile

MAX_BAD = 0.01
"""The share of all files that may be bad."""

MAX_BAD_OF_CLASS = 0.1
"""The share of one class's files that may be bad."""


def check_classes(layout: Layout, classes: tuple[str, ...]) -> None:
    """Refuse what no decoding can mend."""
    for role, names in layout.classes.items():
        if not names:
            _refuse_no_classes(layout, role)
    if len(classes) < 2:
        raise DataError(
            f"{layout.root} holds one class only, {classes[0]}; at least two are needed, each in a folder of its own"
        )
    for role in layout.classes:
        missing = sorted(set(classes) - set(layout.classes[role]))
        unknown = sorted(set(layout.classes[role]) - set(classes))
        if missing or unknown:
            raise DataError(
                f"the {role} images in {layout.root} are of other classes than the training images: "
                + " and ".join(
                    f"{_some(names)} {'is' if len(names) == 1 else 'are'} {what}"
                    for names, what in ((missing, "missing"), (unknown, "not among the training classes"))
                    if names
                )
                + "; give both the same class folders"
            )
    if not any(layout.files.values()):
        raise DataError(f"there are no images in {layout.root}: its {len(classes)} class folders hold no files")
    for role, names in layout.classes.items():
        empty = sorted(set(names) - {found.class_name for found in layout.files[role]})
        if empty:
            _refuse_empty(layout.root, role, empty)


def _refuse_no_classes(layout: Layout, role: Role) -> None:
    place = layout.root if role == "unsplit" else f"the {role} folder of {layout.root}"
    if layout.stray:
        raise DataError(
            f"{place} holds images but no class folders ({len(layout.stray)} images such as {layout.stray[0]}); put "
            f"the images of each class into a folder of its own"
        )
    raise DataError(
        f"there are no images in {place}, and no folders; put the images of each class into a folder of its own"
    )


def _refuse_empty(root: str, role: Role, names: Sequence[str]) -> None:
    which = "" if role == "unsplit" else f" {role}"
    raise DataError(
        f"no{which} images of class {_some(names)} were found in {root}; add images, or remove the class everywhere"
    )


def check_bad(layout: Layout, bad: Sequence[BadFile], bad_of_class: Counter[str]) -> None:
    """Stop where so many files are bad that leaving them out would hide a mistake."""
    files = [found for role in layout.files.values() for found in role]
    of_class = Counter(found.class_name for found in files)
    total = len(files) + len(layout.stray) + len(layout.unusable)
    shown = "; ".join(f"{file.path}: {file.reason}" for file in bad[:5])
    if len(bad) == total:
        raise DataError(
            f"none of the {total} files in {layout.root} is an image that can be read ({shown}); expected "
            f"{', '.join(FORMATS)}"
        )
    if len(bad) < 2:
        return
    if len(bad) > MAX_BAD * total:
        raise DataError(
            f"{len(bad)} of {total} files in {layout.root} are bad, more than 1 % ({shown}); repair or remove them"
        )
    for name, count in bad_of_class.items():
        if count > MAX_BAD_OF_CLASS * of_class[name]:
            raise DataError(
                f"{count} of {of_class[name]} files of class {name} in {layout.root} are bad, more than 10 % "
                f"({shown}); repair or remove them"
            )


def check_counts(found: Scan, layout: Layout) -> None:
    """Refuse a class that bad files have emptied."""
    counts = found.counts
    for role in layout.files:
        empty = [name for name in found.classes if not counts.get(role, {}).get(name)]
        if empty:
            _refuse_empty(layout.root, role, empty)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
