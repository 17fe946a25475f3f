"""Scan a dataset: decode every image once, and check that a network can be trained on the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from triscale.data.checks.class_checks import (
    bad_file_problems,
    class_problems,
    count_problems,
    ignored_files,
    missing_classes,
    require_images,
    require_readable,
)
from triscale.data.checks.examine import CHUNK, OtherFile, examine
from triscale.data.checks.value_range import depth_notes
from triscale.data.images.deep import ValueRange, bit_depth_of
from triscale.data.options import DEFAULT_DATA, DataOptions
from triscale.data.pipeline.groups import group_images
from triscale.data.sources.labeled_folder import find_labeled_folder, unused_tables
from triscale.data.sources.local import is_url
from triscale.data.sources.manifest import is_manifest, read_manifest
from triscale.data.sources.named import find_named, is_named
from triscale.data.sources.remote import find_remote
from triscale.data.sources.scan_cache import ScanCache
from triscale.data.sources.scanned import Scan, ScannedImage, Sides
from triscale.data.sources.shards import find_shards, is_shards
from triscale.data.sources.source import Layout, find_images, printable
from triscale.data.sources.split_folders import Role
from triscale.data.sources.store import open_store
from triscale.data.sources.tables import find_tables, is_tables
from triscale.errors import DataError
from triscale.results.data_summary import BadFile

REMOTE_WORKERS = 16
"""Number of threads for a remote dataset; they mostly wait."""

__all__ = ["BadFile", "Scan", "ScannedImage", "Sides", "scan"]


def scan(
    root: str | Path,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    options: DataOptions = DEFAULT_DATA,
    strict: bool = True,
    uses_splits: bool = True,
) -> Scan:
    """Find the images of a dataset and decode each of them completely.

    Only one file is written, in the cache folder: it saves decoding unchanged files again and does not change the
    result; see :mod:`triscale.data.sources.scan_cache`. Files that cannot be decoded are listed in the result, up to
    ``options.max_bad`` of all files; a single bad file is always tolerated.

    Args:
        root: One of

            - the name of a dataset, see :mod:`triscale.data.sources.named`;
            - a folder of images, see :func:`triscale.data.sources.source.find_images`;
            - a folder of tar shards, see :func:`triscale.data.sources.shards.find_shards`;
            - a manifest, see :func:`triscale.data.sources.manifest.read_manifest`;
            - a folder of images and tables, see :func:`triscale.data.sources.labeled_folder.find_labeled_folder`;
            - a folder of tables, see :func:`triscale.data.sources.tables.find_tables`;
            - a URL, see :func:`triscale.data.sources.remote.find_remote`.
        workers: Number of threads; by default one per core, at most 8, or :data:`REMOTE_WORKERS` for a URL. The result
            does not depend on it.
        progress: Called in this thread with the number of files done and the total.
        options: How the data set is read, and what is tolerated.
        strict: Whether problems that stop a training are raised; otherwise they are listed in the result.
        uses_splits: Whether the given splits are those of the training. Folds divide the images again, so that notes on
            what a split lacks would be wrong.

    Raises:
        DataError: The dataset is missing or unreadable, or has no images; if ``strict``, also: it has fewer than two
            classes, a class without images, different classes for testing and training, or too many bad files; or an
            image has no group, if the options group images.

    Example:
        >>> import tempfile
        >>> from triscale.data.sources.digits import write_digits
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = scan(write_digits(Path(folder) / "digits"))
        >>> found.num_images, len(found.train), found.sides.median
        (1797, 1438, 32)
    """
    layout = _layout(str(root), options)
    require_images(layout)
    trained = layout.classes["train" if "train" in layout.classes else "unsplit"]
    problems = class_problems(layout, trained, options)
    _stop(problems, strict=strict)
    classes = trained + tuple(sorted(set().union(*layout.classes.values()) - set(trained)))
    labels = {name: label for label, name in enumerate(classes)}
    jobs = [(role, file) for role in layout.files for file in layout.files[role]]
    good: dict[Role, list[ScannedImage]] = {role: [] for role in layout.files}
    bad = [BadFile(printable(path), "is outside every class folder") for path in layout.stray]
    bad += [BadFile(path, reason) for path, reason in layout.unusable]
    bad_of_class: Counter[str] = Counter()
    others: list[OtherFile] = []
    channels = options.channels or 3
    cache = ScanCache(layout.root, options.limits, channels)
    store, files = open_store(layout.root), [file for _, file in jobs]
    workers = workers or (REMOTE_WORKERS if is_url(layout.root) else None)
    if progress:
        progress(0, len(jobs))
    try:
        with closing(examine(store, files, labels, options.limits, cache, workers, channels)) as results:
            for done, ((role, file), result) in enumerate(zip(jobs, results, strict=True), start=1):
                if isinstance(result, ScannedImage):
                    good[role].append(result)
                elif isinstance(result, OtherFile) and layout.is_walked:
                    others.append(result)
                else:
                    bad.append(result.as_bad() if isinstance(result, OtherFile) else result)
                    bad_of_class.update(file.class_names)
                if progress and (done % CHUNK == 0 or done == len(jobs)):
                    progress(done, len(jobs))
    finally:
        cache.save(file.path for file in files)
    require_readable(layout, bad, others)
    problems += bad_file_problems(_without(layout, others), bad, bad_of_class, options)
    _stop(problems, strict=strict)
    missing = missing_classes(layout, classes) if uses_splits else []
    ranges = [(image.path, ValueRange(image.lowest, image.highest)) for images in good.values() for image in images]
    highest = max((values.highest for _, values in ranges), default=0)
    found_scan = Scan(
        root=layout.root,
        classes=classes,
        bad=tuple(bad),
        bit_depth=options.bit_depth or (bit_depth_of(highest) if highest else 16),
        channels=channels,
        notes=(*layout.notes, *ignored_files(others), *missing, *depth_notes(ranges, options)),
        **{role: tuple(images) for role, images in good.items()},
    )
    problems += count_problems(layout.root, found_scan.counts, layout, trained, options)
    _stop(problems, strict=strict)
    found_scan = group_images(found_scan, options, store, progress)
    return found_scan.replace(problems=tuple(problems))


def _stop(problems: list[str], *, strict: bool) -> None:
    if not strict or not problems:
        return
    more = f" ({len(problems) - 1} more: triscale data check lists all)" if len(problems) > 1 else ""
    raise DataError(problems[0] + more)


def _without(layout: Layout, others: list[OtherFile]) -> Layout:
    ignored = {file.path for file in others}
    files = {role: tuple(file for file in found if file.path not in ignored) for role, found in layout.files.items()}
    return replace(layout, files=files)


def _layout(root: str, options: DataOptions) -> Layout:
    path = Path(root)
    if not is_url(root) and not is_named(root):
        if is_manifest(path):
            return read_manifest(path, options)
        if (layout := find_labeled_folder(path, options)) is not None:
            return layout
    if options.for_tables:
        option = options.for_tables[0].replace("_", "-")
        raise DataError(f"--{option} applies to tables of paths and labels; {root} is none and holds none")
    if is_url(root):
        return find_remote(root)
    if is_named(root):
        return find_named(root)
    if is_tables(path):
        return find_tables(path)
    if is_shards(path):
        return find_shards(path)
    layout = find_images(path)
    return replace(layout, notes=(*layout.notes, *unused_tables(path)))
