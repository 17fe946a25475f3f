"""Look at every image once: which can be decoded, how large they are, and whether a network can be trained on them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from triscale.data.checks import check_bad, check_classes, check_counts
from triscale.data.decode import DEFAULT_LIMITS, BadImage, ImageLimits, decode
from triscale.data.header import format_of
from triscale.data.local import is_url
from triscale.data.look import looks_of, shrink
from triscale.data.manifest import is_manifest, read_manifest
from triscale.data.remote import find_remote
from triscale.data.scanned import BadFile, Scan, ScannedImage, Sides
from triscale.data.shards import find_shards, is_shards
from triscale.data.source import Found, Layout, Role, find_images, is_text
from triscale.data.store import Store, open_store

__all__ = ["BadFile", "Scan", "ScannedImage", "Sides", "scan"]

_CHUNK = 32  # files that a thread takes at a time


def scan(
    root: str | Path,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> Scan:
    """Find the images below a folder, or those that a manifest names, and decode each in full.

    Nothing is written. Files that cannot be decoded are listed in the result, up to 1 % of all files and 10 % of each
    class; a single one is always let pass.

    Args:
        root: the folder, in one of the layouts of :func:`triscale.data.source.find_images`, or the file of a manifest,
            see :func:`triscale.data.manifest.read_manifest`.
        workers: number of threads; by default one for each core, at most 8. The result does not depend on it.
        progress: called in this thread with the number of files done and the number of all files.
        limits: what a file may ask for.

    Raises:
        DataError: the folder or manifest is missing or unreadable, holds no images, fewer than two classes, a class
            without images, other classes for testing than for training, or too many bad files.
    """
    layout = _layout(str(root))
    classes = layout.classes["train" if "train" in layout.classes else "unsplit"]
    check_classes(layout, classes)
    labels = {name: label for label, name in enumerate(classes)}
    jobs = [(role, found) for role in layout.files for found in layout.files[role]]
    good: dict[Role, list[ScannedImage]] = {role: [] for role in layout.files}
    bad = [BadFile(_printable(path), "lies outside every class folder") for path in layout.stray]
    bad += [BadFile(path, reason) for path, reason in layout.unusable]
    bad_of_class: Counter[str] = Counter()
    files = [found for _, found in jobs]
    results = _examine_all(open_store(layout.root), files, labels, limits, workers or _default_workers())
    if progress:
        progress(0, len(jobs))
    for done, ((role, found), result) in enumerate(zip(jobs, results, strict=True), start=1):
        if isinstance(result, ScannedImage):
            good[role].append(result)
        else:
            bad.append(result)
            bad_of_class[found.class_name] += 1
        if progress and (done % _CHUNK == 0 or done == len(jobs)):
            progress(done, len(jobs))
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
    path = Path(root)
    if is_manifest(path):
        return read_manifest(path)
    return find_shards(path) if is_shards(path) else find_images(path)


def _default_workers() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


def _examine_all(
    store: Store, files: Sequence[Found], labels: dict[str, int], limits: ImageLimits, workers: int
) -> Iterator[ScannedImage | BadFile]:
    """Yield what each file is, in order; only a few chunks are under way at a time, so that memory stays flat."""

    def examine_chunk(start: int) -> list[ScannedImage | BadFile]:
        chunk = [
            _examine(store, found.path, labels[found.class_name], limits) for found in files[start : start + _CHUNK]
        ]
        looks = iter(looks_of([shrunk for _, shrunk in chunk if shrunk]))
        return [ScannedImage(*result, next(looks)) if isinstance(result, tuple) else result for result, _ in chunk]

    pool = ThreadPoolExecutor(workers, thread_name_prefix="scan")
    pending: deque[Future[list[ScannedImage | BadFile]]] = deque()
    try:
        for start in range(0, len(files), _CHUNK):
            pending.append(pool.submit(examine_chunk, start))
            if len(pending) > 2 * workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


_Facts = tuple[str, int, int, int, int, str, str]
"""The fields of a :class:`ScannedImage`, all but the last."""


def _examine(store: Store, path: str, label: int, limits: ImageLimits) -> tuple[_Facts | BadFile, bytes]:
    """Return what a file is and, of an image, what its look is made from."""
    if not is_text(path):
        return BadFile(_printable(path), "the name is not valid UTF-8"), b""
    try:
        content = store.read(path, limits)
        image = decode(content, limits)
    except BadImage as error:
        return BadFile(path, str(error)), b""
    sha256 = hashlib.sha256(content).hexdigest()
    facts = (path, label, image.width, image.height, len(content), format_of(content) or "", sha256)
    return facts, shrink(image)


def _printable(path: str) -> str:
    """Return a path in which bytes that are no UTF-8 are written as escapes."""
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace")
