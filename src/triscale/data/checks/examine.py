"""Decode many files with a few threads and report facts about each, in order."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from triscale.data.images.color import BadImage, FileTooLarge, NotAnImage
from triscale.data.images.decode import ImageLimits, open_image
from triscale.data.images.fingerprint import fingerprints_of, shrink
from triscale.data.images.header import format_of
from triscale.data.images.other_formats import is_named_as_image, is_named_as_unread
from triscale.data.sources.labels import Label
from triscale.data.sources.scan_cache import FileStamp, ImageFacts, ScanCache
from triscale.data.sources.scanned import ScannedImage
from triscale.data.sources.source import FoundFile, printable
from triscale.data.sources.split_folders import is_text
from triscale.data.sources.store import Store
from triscale.results.data_summary import BadFile

CHUNK = 32
"""Number of files per task of a thread."""


class OtherFile(NamedTuple):
    """A file that neither is an image nor is named like one, and why it is not."""

    path: str
    reason: str

    def as_bad(self) -> BadFile:
        """Return it as a file that should have been an image."""
        return BadFile(self.path, self.reason)


Examined = ScannedImage | BadFile | OtherFile


def examine(
    store: Store,
    files: Sequence[FoundFile],
    labels: dict[str, int],
    limits: ImageLimits,
    cache: ScanCache,
    workers: int | None = None,
    channels: int = 3,
) -> Generator[Examined]:
    """Decode files and yield what each one is, in order; few chunks are in flight at a time to bound memory.

    Args:
        store: Reads the files.
        files: The files to decode.
        labels: From class name to label.
        limits: Limits on a file.
        cache: Facts about unchanged files; new facts are added to it. Bad files are decoded every time.
        workers: Number of threads; by default one per core, at most 8.
        channels: The number of channels that images are read with.

    Yields:
        The facts about an image, or the reason why the file is not one.
    """

    def examine_chunk(start: int) -> list[Examined]:
        chunk = files[start : start + CHUNK]
        examined = [_examine(store, file.path, limits, cache, channels) for file in chunk]
        fingerprints = iter(fingerprints_of([result.shrunk for result in examined if isinstance(result, _Decoded)]))
        results: list[Examined] = []
        for file, result in zip(chunk, examined, strict=True):
            if isinstance(result, BadFile | OtherFile):
                results.append(result)
                continue
            if isinstance(result, _Decoded):
                facts = result.facts._replace(fingerprint=next(fingerprints))
                cache.add(file.path, result.stamp, facts)
            else:
                facts = result
            results.append(ScannedImage(file.path, _label(file, labels), *facts, group=file.group))
        return results

    workers = workers or _default_workers()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="scan")
    pending: deque[Future[list[Examined]]] = deque()
    try:
        for start in range(0, len(files), CHUNK):
            pending.append(pool.submit(examine_chunk, start))
            if len(pending) > 2 * workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _label(file: FoundFile, labels: dict[str, int]) -> Label:
    if isinstance(file.class_name, str):
        return labels[file.class_name]
    return tuple(sorted(labels[name] for name in file.class_name))


def _default_workers() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


class _Decoded:
    """The facts about an image without its fingerprint, and the ``shrunk`` pixels to compute it from."""

    __slots__ = ("facts", "shrunk", "stamp")

    def __init__(self, facts: ImageFacts, shrunk: bytes, stamp: FileStamp) -> None:
        self.facts, self.shrunk, self.stamp = facts, shrunk, stamp


def _examine(
    store: Store, path: str, limits: ImageLimits, cache: ScanCache, channels: int
) -> ImageFacts | _Decoded | BadFile | OtherFile:
    if not is_text(path):
        return BadFile(printable(path), "the name is not valid UTF-8")
    try:
        stamp = store.stamp(path)  # before it is read, as it may change in between
        cached = cache.find(path, stamp)
        if cached is not None:
            return cached
        content = store.read(path, limits)
        opened = open_image(content, limits, None, channels)
        image = opened.load()
    except BadImage as error:
        if isinstance(error, NotAnImage | FileTooLarge) and not is_named_as_image(path):
            return OtherFile(path, str(error))
        if isinstance(error, NotAnImage) and is_named_as_unread(path):
            return BadFile(path, f"{error}; convert it to PNG or JPEG")
        return BadFile(path, str(error))
    sha256 = hashlib.sha256(content).hexdigest()
    kind = format_of(content) or ""
    facts = ImageFacts(image.width, image.height, len(content), kind, sha256, "", *opened.range)
    return _Decoded(facts, shrink(image), stamp)
