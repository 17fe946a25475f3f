"""Decode many files with a few threads, in order, and say what each is."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from triscale.data.images.color import BadImage
from triscale.data.images.decode import ImageLimits, decode
from triscale.data.images.fingerprint import fingerprints_of, shrink
from triscale.data.images.header import format_of
from triscale.data.sources.scan_cache import Facts, ScanCache, Stamp
from triscale.data.sources.scanned import ScannedImage
from triscale.data.sources.source import FoundFile, is_text, printable
from triscale.data.sources.store import Store
from triscale.results.data_summary import BadFile

CHUNK = 32
"""Files that a thread takes at a time."""


def examine(
    store: Store,
    files: Sequence[FoundFile],
    labels: dict[str, int],
    limits: ImageLimits,
    cache: ScanCache,
    workers: int | None = None,
) -> Generator[ScannedImage | BadFile]:
    """Yield what each file is, in order; only a few chunks are under way at a time, so that memory stays flat.

    Args:
        store: has the files.
        files: what to look at.
        labels: from the names of the classes to their numbers.
        limits: what a file may ask for.
        cache: what is known already; takes what is found. Bad files are looked at every time.
        workers: number of threads; by default one for each core, at most 8.
    """

    def examine_chunk(start: int) -> list[ScannedImage | BadFile]:
        chunk = files[start : start + CHUNK]
        found = [_examine(store, file.path, limits, cache) for file in chunk]
        fingerprints = iter(fingerprints_of([result.shrunk for result in found if isinstance(result, _Decoded)]))
        results: list[ScannedImage | BadFile] = []
        for file, result in zip(chunk, found, strict=True):
            if isinstance(result, BadFile):
                results.append(result)
                continue
            if isinstance(result, _Decoded):
                facts = result.facts._replace(fingerprint=next(fingerprints))
                cache.add(file.path, result.stamp, facts)
            else:
                facts = result
            results.append(ScannedImage(file.path, labels[file.class_name], *facts))
        return results

    workers = workers or _default_workers()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="scan")
    pending: deque[Future[list[ScannedImage | BadFile]]] = deque()
    try:
        for start in range(0, len(files), CHUNK):
            pending.append(pool.submit(examine_chunk, start))
            if len(pending) > 2 * workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _default_workers() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


class _Decoded:
    """An image, all but its look; ``shrunk`` is what that is made from."""

    __slots__ = ("facts", "shrunk", "stamp")

    def __init__(self, facts: Facts, shrunk: bytes, stamp: Stamp) -> None:
        self.facts, self.shrunk, self.stamp = facts, shrunk, stamp


def _examine(store: Store, path: str, limits: ImageLimits, cache: ScanCache) -> Facts | _Decoded | BadFile:
    if not is_text(path):
        return BadFile(printable(path), "the name is not valid UTF-8")
    try:
        stamp = store.stamp(path)  # before it is read, as it may change in between
        known = cache.find(path, stamp)
        if known is not None:
            return known
        content = store.read(path, limits)
        image = decode(content, limits)
    except BadImage as error:
        return BadFile(path, str(error))
    sha256 = hashlib.sha256(content).hexdigest()
    facts = Facts(image.width, image.height, len(content), format_of(content) or "", sha256, "")
    return _Decoded(facts, shrink(image), stamp)
