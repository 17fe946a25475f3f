"""What is wrong with the classes and files of a data set, and stops a training."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from triscale.data.checks.class_names import quoted, refuse_measured_values
from triscale.data.checks.examine import OtherFile
from triscale.data.options import DataOptions
from triscale.data.sources.source import FoundFile, Layout
from triscale.data.sources.split_folders import Role
from triscale.errors import DataError
from triscale.results.data_summary import BadFile

_TRAINED: tuple[Role, ...] = ("train", "unsplit")
"""Splits that hold the training images."""


def require_images(layout: Layout) -> None:
    """Check that there are files in class folders at all, before any is decoded.

    Args:
        layout: The folders and files found.

    Raises:
        DataError: A split has no class, or there is no file.

    Example:
        >>> require_images(Layout("/photos", {"unsplit": ("cat",)}, {"unsplit": ()}, stray=()))
        Traceback (most recent call last):
            ...
        triscale.errors.DataError: there are no images in /photos: its class folder holds no files
    """
    for role, names in layout.classes.items():
        if not names:
            _raise_no_classes(layout, role)
    if not any(layout.files.values()):
        number = len(set().union(*layout.classes.values()))
        folders = "its class folder holds" if number == 1 else f"its {number} class folders hold"
        raise DataError(f"there are no images in {layout.root}: {folders} no files")


def class_problems(layout: Layout, classes: tuple[str, ...], options: DataOptions) -> list[str]:
    """Return what is wrong with the classes, before any file is decoded.

    Args:
        layout: The folders and files found.
        classes: The classes of the training images.
        options: What is tolerated.

    Returns:
        A sentence for each problem: fewer than two classes, labels that are measured values, a class without files,
        splits with different classes.

    Example:
        >>> from triscale.data.sources.source import FoundFile
        >>> layout = Layout("/photos", {"unsplit": ("cat",)}, {"unsplit": (FoundFile("cat/1.png", "cat"),)}, stray=())
        >>> class_problems(layout, ("cat",), DataOptions())
        ['/photos holds only one class, cat; give at least two, each in its own folder']
    """
    problems = []
    if len(classes) < 2:
        problems.append(f"{layout.root} holds only one class, {classes[0]}; give at least two, each in its own folder")
    problems += refuse_measured_values(classes, sum(len(layout.files.get(role, ())) for role in _TRAINED))
    for role, names in layout.classes.items():
        missing = [] if options.allow_missing_classes else sorted(set(classes) - set(names))
        unknown = sorted(set(names) - set(classes))
        if missing or unknown:
            problems.append(_different(layout.root, role, missing, unknown))
    for role, names in layout.classes.items():
        empty = sorted(set(names) - _present(layout.files[role]))
        if empty and (role in _TRAINED or not options.allow_missing_classes):
            problems.append(_empty(layout.root, role, empty))
    return problems


def missing_classes(layout: Layout, classes: tuple[str, ...]) -> list[str]:
    """Return a sentence for each split other than training that lacks classes.

    Example:
        >>> from triscale.data.sources.source import FoundFile
        >>> files = {"train": (FoundFile("train/a/1", "a"), FoundFile("train/b/1", "b")), "val": (FoundFile("1", "a"),)}
        >>> missing_classes(Layout("/photos", {"train": ("a", "b"), "val": ("a",)}, files, stray=()), ("a", "b"))
        ['1 of 2 classes has no val images: b; its figures are not measured there']
    """
    sentences = []
    for role, files in layout.files.items():
        missing = sorted(set(classes) - _present(files))
        if missing and role not in _TRAINED:
            has, its = ("has", "its") if len(missing) == 1 else ("have", "their")
            sentences.append(
                f"{len(missing)} of {len(classes)} classes {has} no {role} images: {_first_names(missing)}; {its} "
                "figures are not measured there"
            )
    return sentences


def ignored_files(others: Sequence[OtherFile]) -> list[str]:
    """Return a sentence about the files that neither are images nor are named like one.

    Example:
        >>> ignored_files([OtherFile("a/1.txt", "not an image"), OtherFile("a/2.TXT", "empty")])
        ['2 files that are not images are ignored: 2 .txt']
    """
    if not others:
        return []
    suffixes = Counter(PurePosixPath(file.path).suffix.lower() or "without a suffix" for file in others)
    named = [f"{count} {suffix}" for suffix, count in suffixes.most_common(5)]
    more = sum(suffixes.values()) - sum(count for _, count in suffixes.most_common(5))
    counted = ", ".join(named) + (f" and {more} more" if more else "")
    files, are = ("file", "is") if len(others) == 1 else ("files", "are")
    that = "is not an image" if len(others) == 1 else "are not images"
    return [f"{len(others)} {files} that {that} {are} ignored: {counted}"]


def require_readable(layout: Layout, bad: Sequence[BadFile], others: Sequence[OtherFile] = ()) -> None:
    """Check that some file is an image.

    Args:
        layout: The folders and files found.
        bad: The files that cannot be used.
        others: The files that are ignored.

    Raises:
        DataError: None is.
    """
    total = _total(layout)
    if len(bad) + len(others) == total:
        shown = _shown([*bad, *(file.as_bad() for file in others)])
        raise DataError(f"none of the {total} files in {layout.root} is a readable image: {shown}")


def bad_file_problems(
    layout: Layout, bad: Sequence[BadFile], bad_of_class: Counter[str], options: DataOptions
) -> list[str]:
    """Return a sentence if more files are bad than can be left out without hiding a mistake; one always can.

    Args:
        layout: The folders and files found.
        bad: The files that cannot be used.
        bad_of_class: Number of bad files of each class.
        options: What is tolerated.
    """
    if len(bad) < 2:
        return []
    total, of_class = (
        _total(layout),
        Counter(name for files in layout.files.values() for file in files for name in file.class_names),
    )
    if len(bad) > options.max_bad * total:
        return [
            (
                f"{len(bad)} of {total} files in {layout.root} are bad, more than {100 * options.max_bad:.3g}% "
                f"({_shown(bad)}); repair or remove them, or leave them out with --max-bad {_up(len(bad) / total)}"
            )
        ]
    return [
        f"{count} of {of_class[name]} files of class {name} in {layout.root} are bad, more than "
        f"{options.max_bad_of_class:.0%} ({_shown(bad)}); repair or remove them, or leave them out with --max-bad "
        f"{_up(count / of_class[name] / 10)}"
        for name, count in bad_of_class.items()
        if count > options.max_bad_of_class * of_class[name]
    ]


def count_problems(
    root: str, counts: dict[Role, dict[str, int]], layout: Layout, classes: tuple[str, ...], options: DataOptions
) -> list[str]:
    """Return a sentence for each split with classes that have files, but no readable image.

    Args:
        root: Where the images are.
        counts: Number of readable images of each class in each split.
        layout: The folders and files found.
        classes: The classes of the training images.
        options: What is tolerated.
    """
    problems = []
    for role, files in layout.files.items():
        with_files = _present(files)
        empty = [name for name in classes if name in with_files and not counts.get(role, {}).get(name)]
        if empty and (role in _TRAINED or not options.allow_missing_classes):
            problems.append(_empty(root, role, empty))
    return problems


def _different(root: str, role: Role, missing: list[str], unknown: list[str]) -> str:
    parts = [
        f"{_first_names(names)} {'is' if len(names) == 1 else 'are'} {what}"
        for names, what in ((missing, "missing"), (unknown, "not among the training classes"))
        if names
    ]
    remedy = (
        "give both the same classes" if unknown else "add images of them, or accept it with --allow-missing-classes"
    )
    return f"the {role} images in {root} have other classes than the training images: {' and '.join(parts)}; {remedy}"


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


def _empty(root: str, role: Role, names: Sequence[str]) -> str:
    split = "" if role == "unsplit" else f" {role}"
    remedy = "or remove the class everywhere" if role in _TRAINED else "or accept it with --allow-missing-classes"
    return f"no{split} images of class {_first_names(names)} were found in {root}; add images, {remedy}"


def _present(files: Iterable[FoundFile]) -> set[str]:
    return {name for file in files for name in file.class_names}


def _total(layout: Layout) -> int:
    return sum(map(len, layout.files.values())) + len(layout.stray) + len(layout.unusable)


def _shown(bad: Sequence[BadFile]) -> str:
    """Return the first reasons, each with its first files and how many more have it."""
    files: dict[str, list[str]] = {}
    for file in bad:
        files.setdefault(file.reason, []).append(file.path)
    return "; ".join(f"{_first_names(paths)}: {reason}" for reason, paths in list(files.items())[:5])


def _up(share: float) -> str:
    """Return a share in whole percent, rounded up."""
    return f"{math.ceil(100 * share - 1e-9)}%"


def _first_names(names: Sequence[str]) -> str:
    return ", ".join(map(_clean, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _clean(name: str) -> str:
    return name if name.isprintable() else quoted(name)
