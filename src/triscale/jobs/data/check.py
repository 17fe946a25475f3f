"""Check a data set before training: contents, duplicates, leaks and other problems."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import ClassVar

from pydantic import PositiveInt

from triscale.data.checks.contact_sheet import contact_sheet
from triscale.data.checks.duplicates import Duplicates, contradictions, find_duplicates
from triscale.data.checks.mirroring import mirrored_classes
from triscale.data.options import DEFAULT_DATA, DataOptions
from triscale.data.pipeline.groups import summarize_groups
from triscale.data.pipeline.leaks import certain, find_leaks, find_leaks_between, refuse_leaks
from triscale.data.pipeline.split import make_split
from triscale.data.sources.scanned import Scan
from triscale.data.sources.split_folders import Role
from triscale.errors import DataError
from triscale.jobs.core.output import refuse_output_in_images
from triscale.jobs.data.scanning import scan_with_progress, warnings_about_names
from triscale.record import Record, SparseRecord, write_atomic
from triscale.results.data_summary import BadFile, GroupSummary, Leak
from triscale.training.context import ExecutionContext

RECORD, SHEET = "check.json", "contact-sheet.png"

FEW_IMAGES = 20
"""A class with fewer training images causes a warning."""

UNBALANCED = 5
"""A ratio of largest to smallest class of at least this causes a warning."""

SMALL_SIDE = 16
"""An image whose shorter side has fewer pixels causes a warning."""


class ClassCounts(Record):
    """Number of images of a class in each split."""

    name: str
    images: dict[Role, int]

    @property
    def total(self) -> int:
        """Number of images in all splits."""
        return sum(self.images.values())


class Sizes(Record):
    """Sizes of the images in pixels, and of the files in bytes."""

    smallest_side: int
    median_side: int
    largest_side: int
    smallest: tuple[int, int]
    largest: tuple[int, int]
    total_bytes: int


class SetCheck(SparseRecord):
    """The result of checking a data set.

    Attributes:
        root: The folder that all paths are relative to.
        splits: The splits that the folder layout defines, or ``unsplit``.
        classes: The number of images of every class.
        sizes: The sizes of all readable images.
        formats: Number of images of each format, most common first.
        bad: Files that cannot be read as images, with the reason.
        copies: Groups of duplicate images.
        leaks: Test or validation images that have a copy, or an image of their group, in an earlier split.
        groups: How images are grouped, and the number and the sizes of the groups; None without groups.
        contradictions: Groups of copies with more than one class.
        notes: A message for everything that was concluded from an unusual layout.
        problems: A message for everything that a training refuses.
        warnings: A message for everything else that may lead to a poor result.
        images: The number of readable images of each split.
        multi_label: Whether images have any number of labels.
        channels: The number of channels that images are read with; left out of JSON if it is 3.
    """

    kind_name: ClassVar[str] = "check"
    sparse: ClassVar[tuple[str, ...]] = ("channels",)
    schema_number: ClassVar[int] = 4

    root: str
    splits: tuple[Role, ...]
    classes: tuple[ClassCounts, ...]
    sizes: Sizes
    formats: dict[str, int]
    bad: tuple[BadFile, ...]
    copies: Duplicates
    leaks: tuple[Leak, ...]
    groups: GroupSummary | None = None
    contradictions: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...]
    images: dict[Role, int]
    multi_label: bool = False
    channels: PositiveInt = 3

    @property
    def num_images(self) -> int:
        """Number of readable images."""
        return sum(self.images.values())


def check(
    images: str | Path,
    context: ExecutionContext,
    *,
    options: DataOptions = DEFAULT_DATA,
    out: Path | None = None,
    allow_leak: bool = False,
) -> SetCheck:
    """Scan a data set, find duplicates and leaks, and warn about problems.

    Args:
        images: A data set in any layout that :func:`triscale.data.pipeline.scan.scan` supports.
        context: Progress and stop flag.
        options: How the images are read, and what is tolerated.
        out: Folder for the record and a contact sheet, created if necessary; must not be inside the images.
        allow_leak: Whether images that are certainly in two splits are listed, but no problem.

    Returns:
        The result, also saved in ``out``.

    Raises:
        DataError: There are no images, or ``out`` cannot be written.
        Interrupted: ``context.should_stop`` returned true; nothing was written.
    """
    if out is not None:
        refuse_output_in_images(out, images)
    stopped = "stopped while scanning the images; nothing was written"
    scanned = scan_with_progress(images, context, stopped, options, strict=False)
    result = summarize(scanned, find_duplicates(scanned), allow_leak=allow_leak)
    if out is not None:
        try:
            write_atomic(out / SHEET, contact_sheet(scanned))
            result.save(out / RECORD)
        except OSError as error:
            raise DataError(f"cannot write to {out} ({error.strerror}); give another folder with --out") from error
    return result


def summarize(scanned: Scan, copies: Duplicates, *, allow_leak: bool = False) -> SetCheck:
    """Return the check of a scanned data set with its duplicates; leaks are problems unless they are allowed."""
    images = [image for of_role in scanned.by_role.values() for image in of_role]
    by_area = sorted(images, key=lambda image: (image.width * image.height, image.width, image.path))
    sides = scanned.sides
    leaks = find_leaks_between(scanned.train, scanned.val, scanned.test, copies, scanned.groups)
    result = SetCheck(
        root=scanned.root,
        splits=tuple(scanned.by_role),
        classes=tuple(
            ClassCounts(name=name, images={role: counts[name] for role, counts in scanned.counts.items()})
            for name in scanned.classes
        ),
        sizes=Sizes(
            smallest_side=sides.smallest,
            median_side=sides.median,
            largest_side=sides.largest,
            smallest=(by_area[0].width, by_area[0].height),
            largest=(by_area[-1].width, by_area[-1].height),
            total_bytes=sum(image.num_bytes for image in images),
        ),
        formats=dict(Counter(image.format for image in images).most_common()),
        bad=scanned.bad,
        copies=copies,
        leaks=leaks,
        groups=summarize_groups(scanned),
        contradictions=contradictions(scanned, copies),
        notes=scanned.notes,
        problems=(*scanned.problems, *_split_problems(scanned, copies, leaks, allow_leak=allow_leak)),
        warnings=(),
        images={role: len(of_role) for role, of_role in scanned.by_role.items()},
        multi_label=scanned.multi_label,
        channels=scanned.channels,
    )
    return result.replace(warnings=(*warnings_about_names(scanned), *_warnings(result)))


def _split_problems(scanned: Scan, copies: Duplicates, given: tuple[Leak, ...], *, allow_leak: bool) -> list[str]:
    """Return what a training refuses after the scan: too few images to split, and leaks.

    Images that cannot be split are still examined for leaks between the splits that are given.
    """
    problems: list[str] = []
    leaks = given
    try:
        leaks = find_leaks(make_split(scanned, duplicates=copies), copies, scanned.groups)
    except DataError as error:
        problems.append(str(error))
    except ValueError:
        if not scanned.problems:
            raise
        # images that have problems already may be impossible to split, which says nothing new
    if allow_leak:
        return problems
    try:
        refuse_leaks(scanned.root, leaks)
    except DataError as error:
        problems.append(str(error))
    return problems


def _warnings(result: SetCheck) -> list[str]:
    sentences = []
    sure = certain(result.leaks)
    if len(result.leaks) > len(sure):
        number = _number(len(result.leaks) - len(sure), "test or validation image")
        sentences.append(f"{number} possibly also in an earlier split; compare the images")
    if result.contradictions:
        sentences.append(f"{_number(len(result.contradictions), 'image')} in more than one class; keep one copy")
    if result.bad:
        skipped = "" if result.problems else "; training skips unreadable files"
        sentences.append(f"{_number(len(result.bad), 'file')} unreadable{skipped}")
    totals = [row.total for row in result.classes]
    if min(totals) and max(totals) >= UNBALANCED * min(totals):
        sentences.append(
            f"the largest class has {max(totals) / min(totals):.0f} times as many images as the smallest; --set "
            "sampling=balanced or --set class_weights=balanced trains small classes as much as large ones"
        )
    first: Role = "train" if "train" in result.splits else "unsplit"
    by_count = sorted(result.classes, key=lambda row: row.images[first])
    few = [row.name for row in by_count if row.images[first] < FEW_IMAGES]
    if few:
        names = ", ".join(few[:3]) + (f" and {len(few) - 3} more" if len(few) > 3 else "")
        sentences.append(f"fewer than {FEW_IMAGES} training images: {names}")
    reason = mirrored_classes([row.name for row in result.classes])
    if reason is not None:
        sentences.append(f"a training does not mirror images since {reason}; --flip mirrors them")
    if result.sizes.smallest_side < SMALL_SIDE:
        sentences.append(f"the shortest side is only {result.sizes.smallest_side} px")
    return sentences


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
