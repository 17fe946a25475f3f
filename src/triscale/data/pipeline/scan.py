"""Look at every image once: which can be decoded, how large they are, and whether a network can be trained on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from triscale.data.checks.class_checks import check_bad, check_classes, check_counts
from triscale.data.checks.examine import CHUNK, examine
from triscale.data.images.decode import DEFAULT_LIMITS, ImageLimits
from triscale.data.sources.local import is_url
from triscale.data.sources.manifest import is_manifest, read_manifest
from triscale.data.sources.named import find_named, is_named
from triscale.data.sources.remote import find_remote
from triscale.data.sources.scan_cache import ScanCache
from triscale.data.sources.scanned import Scan, ScannedImage, Sides
from triscale.data.sources.shards import find_shards, is_shards
from triscale.data.sources.source import Layout, Role, find_images, printable
from triscale.data.sources.store import open_store
from triscale.data.sources.tables import find_tables, is_tables
from triscale.results.data_summary import BadFile

REMOTE_WORKERS = 16
"""Threads that fetch what lies on other machines, as they mostly wait."""

__all__ = ["BadFile", "Scan", "ScannedImage", "Sides", "scan"]


def scan(
    root: str | Path,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> Scan:
    """Find the images of a set and decode each in full.

    Nothing is written but a file in the cache folder, by which files that have not changed are not decoded again; see
    :mod:`triscale.data.sources.scan_cache`. The result is that of a scan without it. Files that cannot be decoded are
    listed in the result, up to 1 % of all files and 10 % of each class; a single one is always let pass.

    Args:
        root: the name of a set, see :mod:`triscale.data.sources.named`; a folder in one of the layouts of
            :func:`triscale.data.sources.source.find_images`, one of tar shards, see
            :func:`triscale.data.sources.shards.find_shards`, the file of a manifest, see
            :func:`triscale.data.sources.manifest.read_manifest`, one of tables, see
            :func:`triscale.data.sources.tables.find_tables`, or an address, see
            :func:`triscale.data.sources.remote.find_remote`.
        workers: number of threads; by default one for each core, at most 8, or :data:`REMOTE_WORKERS` for an address.
            The result does not depend on it.
        progress: called in this thread with the number of files done and the number of all files.
        limits: what a file may ask for.

    Raises:
        DataError: the set is missing or unreadable, holds no images, fewer than two classes, a class without
            images, other classes for testing than for training, or too many bad files.
    """
    layout = _layout(str(root))
    classes = layout.classes["train" if "train" in layout.classes else "unsplit"]
    check_classes(layout, classes)
    labels = {name: label for label, name in enumerate(classes)}
    jobs = [(role, found) for role in layout.files for found in layout.files[role]]
    good: dict[Role, list[ScannedImage]] = {role: [] for role in layout.files}
    bad = [BadFile(printable(path), "lies outside every class folder") for path in layout.stray]
    bad += [BadFile(path, reason) for path, reason in layout.unusable]
    bad_of_class: Counter[str] = Counter()
    cache = ScanCache(layout.root, limits)
    store, files = open_store(layout.root), [found for _, found in jobs]
    workers = workers or (REMOTE_WORKERS if is_url(layout.root) else None)
    if progress:
        progress(0, len(jobs))
    try:
        with closing(examine(store, files, labels, limits, cache, workers)) as results:
            for done, ((role, found), result) in enumerate(zip(jobs, results, strict=True), start=1):
                if isinstance(result, ScannedImage):
                    good[role].append(result)
                else:
                    bad.append(result)
                    bad_of_class[found.class_name] += 1
                if progress and (done % CHUNK == 0 or done == len(jobs)):
                    progress(done, len(jobs))
    finally:
        cache.save(found.path for found in files)
    check_bad(layout, bad, bad_of_class)
    found_scan = Scan(
        root=layout.root,
        classes=classes,
        bad=tuple(bad),
        **{role: tuple(images) for role, images in good.items()},
    )
    check_counts(found_scan, layout)
    return found_scan


def _layout(root: str) -> Layout:
    if is_url(root):
        return find_remote(root)
    if is_named(root):
        return find_named(root)
    path = Path(root)
    if is_manifest(path):
        return read_manifest(path)
    if is_tables(path):
        return find_tables(path)
    return find_shards(path) if is_shards(path) else find_images(path)
