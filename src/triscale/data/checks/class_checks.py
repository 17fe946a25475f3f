"""Refuse datasets that cannot be trained on: missing or empty classes, too many bad files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from triscale.data.images.decode import FORMATS
from triscale.data.sources.scanned import Scan
from triscale.data.sources.source import Layout
from triscale.data.sources.split_folders import Role
from triscale.errors import DataError
from triscale.results.data_summary import BadFile

MAX_BAD = 0.01
"""Maximum fraction of all files that may be bad."""

MAX_BAD_OF_CLASS = 0.1
"""Maximum fraction of one class's files that may be bad."""


def check_classes(layout: Layout, classes: tuple[str, ...]) -> None:
    """Check the classes of a layout before any file is decoded.

    Args:
        layout: The folders and files found.
        classes: The classes of the training images.

    Raises:
        DataError: There are fewer than two classes, a class without images, or the splits have different classes.

    Example:
        >>> layout = Layout("/photos", {"unsplit": ("cat",)}, {"unsplit": ()}, stray=())
        >>> check_classes(layout, ("cat",))
        Traceback (most recent call last):
            ...
        triscale.errors.DataError: /photos holds only one class, cat; give at least two, each in its own folder
    """
    for role, names in layout.classes.items():
        if not names:
            _raise_no_classes(layout, role)
    if len(classes) < 2:
        raise DataError(f"{layout.root} holds only one class, {classes[0]}; give at least two, each in its own folder")
    for role in layout.classes:
        missing = sorted(set(classes) - set(layout.classes[role]))
        unknown = sorted(set(layout.classes[role]) - set(classes))
        if missing or unknown:
            raise DataError(
                f"the {role} images in {layout.root} have other classes than the training images: "
                + " and ".join(
                    f"{_first_names(names)} {'is' if len(names) == 1 else 'are'} {what}"
                    for names, what in ((missing, "missing"), (unknown, "not among the training classes"))
                    if names
                )
                + "; give both the same class folders"
            )
    if not any(layout.files.values()):
        raise DataError(f"there are no images in {layout.root}: its {len(classes)} class folders hold no files")
    for role, names in layout.classes.items():
        empty = sorted(set(names) - {file.class_name for file in layout.files[role]})
        if empty:
            _raise_empty(layout.root, role, empty)


def _raise_no_classes(layout: Layout, role: Role) -> None:
    location = layout.root if role == "unsplit" else f"the {role} folder of {layout.root}"
    if layout.stray:
        raise DataError(
            f"{location} holds images but no class folders ({len(layout.stray)} images such as {layout.stray[0]}); put "
            f"the images of each class into their own folder"
        )
    raise DataError(
        f"there are no images in {location}, and no folders; put the images of each class into their own folder"
    )


def _raise_empty(root: str, role: Role, names: Sequence[str]) -> None:
    split = "" if role == "unsplit" else f" {role}"
    raise DataError(
        f"no{split} images of class {_first_names(names)} were found in {root}; add images, or remove the class "
        f"everywhere"
    )


def check_bad(layout: Layout, bad: Sequence[BadFile], bad_of_class: Counter[str]) -> None:
    """Check that few enough files are bad to leave them out without hiding a mistake; one is always allowed.

    Args:
        layout: The folders and files found.
        bad: The files that cannot be used.
        bad_of_class: Number of bad files of each class.

    Raises:
        DataError: All files are bad, or more than :data:`MAX_BAD` of all or :data:`MAX_BAD_OF_CLASS` of a class.
    """
    files = [found for role in layout.files.values() for found in role]
    of_class = Counter(found.class_name for found in files)
    total = len(files) + len(layout.stray) + len(layout.unusable)
    shown = "; ".join(f"{file.path}: {file.reason}" for file in bad[:5])
    if len(bad) == total:
        raise DataError(
            f"none of the {total} files in {layout.root} is a readable image ({shown}); expected {', '.join(FORMATS)}"
        )
    if len(bad) < 2:
        return
    if len(bad) > MAX_BAD * total:
        raise DataError(
            f"{len(bad)} of {total} files in {layout.root} are bad, more than {MAX_BAD:.0%} ({shown}); repair or "
            f"remove them"
        )
    for name, count in bad_of_class.items():
        if count > MAX_BAD_OF_CLASS * of_class[name]:
            raise DataError(
                f"{count} of {of_class[name]} files of class {name} in {layout.root} are bad, more than "
                f"{MAX_BAD_OF_CLASS:.0%} ({shown}); repair or remove them"
            )


def check_counts(scan: Scan, layout: Layout) -> None:
    """Check that every class still has images after bad files were left out.

    Raises:
        DataError: A class of a split has no readable image.
    """
    counts = scan.counts
    for role in layout.files:
        empty = [name for name in scan.classes if not counts.get(role, {}).get(name)]
        if empty:
            _raise_empty(layout.root, role, empty)


def _first_names(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
