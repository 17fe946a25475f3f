"""Attach the images of a run again after they have moved, if they are still the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from triscale.data.pipeline.split import Sample, Split
from triscale.data.sources.named import absolute_images
from triscale.data.sources.scanned import Scan, ScannedImage
from triscale.errors import RunError
from triscale.jobs.core.run import Request, RunFolder, RunSpec
from triscale.jobs.data.scanning import scan_with_progress
from triscale.results.data_summary import DataSummary, ImageContents
from triscale.training.context import ExecutionContext
from triscale.weights.class_match import match_classes

DIGITS = 16
"""Hexadecimal digits of a SHA-256 that a run keeps of each image."""
MAX_SHOWN = 3
STOPPED = "stopped while scanning the images; the run is unchanged; run the same command again to restart the scan"


@dataclass(frozen=True, slots=True)
class _Moved:
    """How images at another place differ from those of a run: each tuple names those that do."""

    missing: tuple[str, ...]
    relabeled: tuple[str, ...]
    changed: tuple[str, ...]

    def __str__(self) -> str:
        kinds = (
            (self.missing, "missing"),
            (self.relabeled, "in another class"),
            (self.changed, "of another content"),
        )
        return "; ".join(
            f"{len(names)} {what} ({', '.join(names[:MAX_SHOWN])}{', ...' if len(names) > MAX_SHOWN else ''})"
            for names, what in kinds
            if names
        )


def contents_of(scanned: Scan) -> ImageContents:
    """Return what a run keeps of the content of its images.

    Args:
        scanned: The images.
    """
    return ImageContents(digests={image.path: image.sha256[:DIGITS] for image in _images(scanned) if image.sha256})


def reattach_images(run: RunFolder, images: str, context: ExecutionContext) -> None:
    """Record another place of the images of a run, which all its later jobs read them from.

    Every image of the split must be there, in the same class and, if the run knows their content, with the same bytes.

    Args:
        run: The run; it must be locked.
        images: Where the images are now: any data set that holds them by the same paths.
        context: Progress and stop flag.

    Raises:
        RunError: The run has no images, its split was changed, or the images differ; the message says in what.
        DataError: There are no images.
        Interrupted: ``context.should_stop`` returned true; the run is unchanged.
    """
    spec, split = run.spec, run.split
    samples = _samples(split)
    if not samples:
        raise RunError(
            f"{run.folder} was made without images, so there are none to replace; make a run with images: triscale "
            f"weights run {run.folder} IMAGES --out OTHER_RUN"
        )
    _refuse_changed_split(run, spec, split)
    known = known_contents(run)
    moved, scanned = compare_images(run, images, context)
    if moved:
        raise RunError(
            f"the images in {images} are not those of {run.folder}: of {len(samples)}, {moved}; give the place where "
            f"all of them are, such as {samples[0].path}, or evaluate the weights on other images: triscale weights "
            f"run {run.folder} IMAGES --out OTHER_RUN"
        )
    if not known:
        context.progress.note(
            f"{run.folder} does not record the content of its images, so only their names and classes were compared"
        )
    if more := scanned.num_images - len(samples):
        context.progress.note(f"{more} images in {images} are not in the split of the run and are left out")
    move_images(run, scanned.root, images)
    context.progress.note(f"{run.folder} now takes its {len(samples)} images from {scanned.root}")


def compare_images(run: RunFolder, images: str, context: ExecutionContext) -> tuple[str, Scan]:
    """Scan images, and return how those of the split of a run differ in them: empty if they do not; and the scan.

    Args:
        run: The run.
        images: A data set that may hold them by the same paths.
        context: Progress and stop flag.

    Raises:
        DataError: There are no images.
        Interrupted: ``context.should_stop`` returned true.
    """
    spec = run.spec
    scanned = scan_with_progress(
        images, context, STOPPED, spec.request.data, strict=False, uses_splits=spec.request.fold is None
    )
    return str(_compare(run.split, scanned, _classes_of(spec, scanned), known_contents(run))), scanned


def known_contents(run: RunFolder) -> dict[str, str]:
    """Return the digests of the content of images that a run records, by path; empty in runs of earlier versions.

    Args:
        run: The run.
    """
    return ImageContents.load(run.contents_file).digests if run.contents_file.is_file() else {}


def reattach_moved_images(run: RunFolder, request: Request, context: ExecutionContext) -> None:
    """Before a run is resumed, attach its images again if the request names another place of the same images.

    Any other difference between the requests is left to :meth:`RunFolder.refuse_other`, and so is every difference if
    the run does not record the content of its images.

    Args:
        run: The run, new or not.
        request: The request to resume it with.
        context: Progress and stop flag.

    Raises:
        RunError: The images differ; the message says in what.
        Interrupted: ``context.should_stop`` returned true; the run is unchanged.
    """
    if not run.spec_file.is_file() or not run.contents_file.is_file():
        return
    spec = run.spec
    saved = spec.request
    if "" in (saved.images, request.images) or saved.images == request.images:
        return
    if request.replace(images=saved.images).settled_like(saved, spec.classes).digest == saved.digest:
        reattach_images(run, request.images, context)


def _refuse_changed_split(run: RunFolder, spec: RunSpec, split: Split) -> None:
    """Refuse a split that is not that of the run, apart from its root after an attempt that was killed."""
    before = DataSummary.load(run.data_file).root if run.data_file.is_file() else split.root
    if spec.split not in (split.digest, split.replace(root=before).digest):
        raise RunError(f"{run.split_file} was changed after the run started; restore it, or start another run")


def _classes_of(spec: RunSpec, scanned: Scan) -> tuple[str, ...]:
    """Return the names that the classes of a scan have in the run."""
    if spec.request.trains:
        return scanned.classes
    outputs = match_classes(scanned.classes, spec.classes, "the run", spec.request.class_names)
    return tuple(spec.classes[output] for output in outputs)


def _compare(split: Split, scanned: Scan, classes: tuple[str, ...], known: dict[str, str]) -> _Moved:
    found = {image.path: image for image in _images(scanned)}
    missing, relabeled, changed = [], [], []
    for sample in _samples(split):
        image = found.get(sample.path)
        if image is None:
            missing.append(sample.path)
        elif {classes[label] for label in image.labels} != {split.classes[label] for label in sample.labels}:
            relabeled.append(sample.path)
        elif known.get(sample.path, image.sha256[:DIGITS]) != image.sha256[:DIGITS]:
            changed.append(sample.path)
    return _Moved(tuple(missing), tuple(relabeled), tuple(changed))


def move_images(run: RunFolder, root: str, images: str) -> None:
    """Write another place of the images into the records of a run.

    The summary of the data comes last, see :func:`_refuse_changed_split`.

    Args:
        run: The run.
        root: The root of a scan of the images there.
        images: The data set that was scanned.
    """
    spec, moved = run.spec, run.split.replace(root=root)
    moved.save(run.split_file)
    spec.replace(split=moved.digest, request=spec.request.replace(images=absolute_images(images))).save(run.spec_file)
    if run.data_file.is_file():
        DataSummary.load(run.data_file).replace(root=root).save(run.data_file)


def _samples(split: Split) -> tuple[Sample, ...]:
    return (*split.train, *split.val, *split.test)


def _images(scanned: Scan) -> Iterator[ScannedImage]:
    for images in scanned.by_role.values():
        yield from images
