"""Look at a set of images before anything is trained: what is in it, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import ClassVar

from triscale.data.checks.contact_sheet import contact_sheet
from triscale.data.checks.duplicates import Duplicates, find_duplicates
from triscale.data.pipeline.leaks import certain, find_leaks_between
from triscale.data.sources.scanned import Scan
from triscale.data.sources.source import Role
from triscale.errors import DataError
from triscale.jobs.core.output import refuse_output_in_images
from triscale.jobs.data.scanning import scan_with_progress
from triscale.record import Record, write_atomic
from triscale.results.data_summary import BadFile, Leak
from triscale.training.context import ExecutionContext

RECORD, SHEET = "check.json", "contact-sheet.png"

FEW_IMAGES = 20
"""A class with fewer training images is pointed out."""

UNBALANCED = 10
"""A set is pointed out whose largest class has so many times as many images as its smallest."""

SMALL_SIDE = 16
"""Images with a shorter side are pointed out."""


class ClassCounts(Record):
    """How many images of a class there are in each part that the folders give."""

    name: str
    images: dict[Role, int]

    @property
    def total(self) -> int:
        """The number of images in all splits."""
        return sum(self.images.values())


class Sizes(Record):
    """Sizes of the images in pixels, and of the files in bytes."""

    smallest_side: int
    median_side: int
    largest_side: int
    smallest: tuple[int, int]
    largest: tuple[int, int]
    total_bytes: int


class SetCheck(Record):
    """What a set of images holds.

    Attributes:
        root: the folder that all paths are relative to.
        splits: the splits that the folders give, or ``unsplit``.
        classes: the counts of every class.
        sizes: of the images that can be read.
        formats: number of images of each format, the most common first.
        bad: the files that cannot be read, with the reason.
        copies: the images that are there more than once.
        leaks: the images for testing or validation that have a copy in an earlier split.
        contradictions: groups of copies that lie in more than one class.
        warnings: a sentence for each thing that should be looked at.
    """

    kind_name: ClassVar[str] = "check"
    schema_number: ClassVar[int] = 2

    root: str
    splits: tuple[Role, ...]
    classes: tuple[ClassCounts, ...]
    sizes: Sizes
    formats: dict[str, int]
    bad: tuple[BadFile, ...]
    copies: Duplicates
    leaks: tuple[Leak, ...]
    contradictions: tuple[tuple[str, ...], ...]
    warnings: tuple[str, ...]

    @property
    def num_images(self) -> int:
        """The number of images that can be read."""
        return sum(row.total for row in self.classes)


def check(
    images: str | Path,
    context: ExecutionContext,
    *,
    out: Path | None = None,
) -> SetCheck:
    """Scan a set, find its copies and leaks, and say what should be looked at.

    Args:
        images: a set in any layout that a fit takes.
        context: Device, workers, progress and stop flag.
        out: a folder for the record and a contact sheet, made if need be; not below the images.

    Raises:
        DataError: images that no network could be trained on, or a folder that cannot be written to.
        Interrupted: ``context.should_stop`` returned true; nothing was written.
    """
    if out is not None:
        refuse_output_in_images(out, images)
    found = scan_with_progress(images, context, "stopped during the scan of the images; nothing was written")
    result = summarize(found, find_duplicates(found))
    if out is not None:
        try:
            write_atomic(out / SHEET, contact_sheet(found))
            result.save(out / RECORD)
        except OSError as error:
            raise DataError(f"cannot write to {out} ({error.strerror}); give another folder with --out") from error
    return result


def summarize(found: Scan, copies: Duplicates) -> SetCheck:
    """Return what a scan and the search for copies say of a set."""
    images = [image for of_role in found.by_role.values() for image in of_role]
    by_area = sorted(images, key=lambda image: (image.width * image.height, image.width, image.path))
    sides = found.sides
    label = {image.path: image.label for image in images}
    result = SetCheck(
        root=found.root,
        splits=tuple(found.by_role),
        classes=tuple(
            ClassCounts(name=name, images={role: counts[name] for role, counts in found.counts.items()})
            for name in found.classes
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
        bad=found.bad,
        copies=copies,
        leaks=find_leaks_between(found.train, found.val, found.test, copies),
        contradictions=tuple(group for group in copies.groups if len({label[path] for path in group}) > 1),
        warnings=(),
    )
    return result.replace(warnings=tuple(_warnings(result)))


def _warnings(result: SetCheck) -> list[str]:
    sentences = []
    sure = certain(result.leaks)
    if sure:
        sentences.append(
            f"{_number(len(sure), 'image')} for testing or validation also in an earlier split: a fit refuses"
        )
    if len(result.leaks) > len(sure):
        number = _number(len(result.leaks) - len(sure), "image")
        sentences.append(f"{number} for testing or validation perhaps also in an earlier split: compare them")
    if result.contradictions:
        sentences.append(f"{_number(len(result.contradictions), 'image')} in more than one class: decide for one")
    if result.bad:
        sentences.append(f"{_number(len(result.bad), 'file')} unreadable: a fit leaves them out")
    count_network = [row.total for row in result.classes]
    if max(count_network) >= UNBALANCED * min(count_network):
        sentences.append(
            f"the largest class has {max(count_network) / min(count_network):.0f} times the images of the smallest"
        )
    first: Role = "train" if "train" in result.splits else "unsplit"
    fewest = sorted(result.classes, key=lambda row: row.images[first])
    few = [row.name for row in fewest if row.images[first] < FEW_IMAGES]
    if few:
        names = ", ".join(few[:3]) + (f" and {len(few) - 3} more" if len(few) > 3 else "")
        sentences.append(f"fewer than {FEW_IMAGES} images to learn from: {names}")
    if result.sizes.smallest_side < SMALL_SIDE:
        sentences.append(f"the shortest side is {result.sizes.smallest_side} px: little to see in such an image")
    return sentences


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
