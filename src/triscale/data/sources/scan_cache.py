"""Cache the facts that a scan finds about files, so that unchanged files are not decoded again."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import PIL

from triscale.data.images.decode import ImageLimits
from triscale.places import cache_folder
from triscale.record import write_atomic

OFF = "TRISCALE_NO_CACHE"
"""An environment variable that disables the cache if it is set to anything."""

RECENT_SECONDS = 2.0
"""A file modified this recently is not cached: timestamps are coarse, so a second change could go unnoticed."""

_FACTS_VERSION = 4  # raised with every change to the facts that a scan computes


class ImageFacts(NamedTuple):
    """The fields of a :class:`triscale.data.sources.scanned.ScannedImage` that depend only on the file's content."""

    width: int
    height: int
    num_bytes: int
    format: str
    sha256: str
    fingerprint: str
    lowest: int = 0
    highest: int = 0


class FileStamp(NamedTuple):
    """The identity of a file's content without reading it.

    Attributes:
        state: A string that changes with the content; empty if nothing is known.
        changed_ns: When the content last changed, in ns since 1970; 0 if long ago.
    """

    state: str
    changed_ns: int


class ScanCache:
    """The facts about the images of one dataset, in one file of the cache folder; a damaged file is ignored.

    Args:
        root: The root of the dataset.
        limits: The limits that files are checked against; other limits invalidate the cache.
        channels: The number of channels that images are read with; another one invalidates the cache.
    """

    def __init__(self, root: str, limits: ImageLimits, channels: int = 3) -> None:
        name = hashlib.sha256(root.encode(errors="surrogateescape")).hexdigest()[:32]
        self._file: Path | None = None if os.environ.get(OFF) else cache_folder() / "scans" / f"{name}.json"
        self._made_with = f"{_FACTS_VERSION} Pillow {PIL.__version__} {limits.digest}" + (
            "" if channels == 3 else f" {channels} channels"
        )
        self._rows: dict[str, list[str | int]] = self._load()
        self._changed = False

    def find(self, path: str, stamp: FileStamp) -> ImageFacts | None:
        """Return the facts about a file in exactly this state, or None."""
        row = self._rows.get(path)
        if row is None or row[0] != stamp.state:
            return None
        width, height, num_bytes, kind, sha256, fingerprint, *values = row[1:]
        return ImageFacts(
            int(width), int(height), int(num_bytes), str(kind), str(sha256), str(fingerprint), *map(int, values)
        )

    def add(self, path: str, stamp: FileStamp, facts: ImageFacts) -> None:
        """Add the facts about a file whose stamp was taken before it was read."""
        if stamp.state and time.time_ns() - stamp.changed_ns > RECENT_SECONDS * 1e9:
            self._rows[path] = [stamp.state, *facts]
        else:
            self._rows.pop(path, None)
        self._changed = True

    def save(self, paths: Iterable[str]) -> None:
        """Write the facts about these paths only; a failure to write is ignored, as it costs only time."""
        rows = {path: self._rows[path] for path in paths if path in self._rows}
        if self._file is None or (not self._changed and len(rows) == len(self._rows)):
            return
        content = json.dumps({"made_with": self._made_with, "rows": rows}, separators=(",", ":")).encode()
        try:
            write_atomic(self._file, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        except OSError:
            return

    def _load(self) -> dict[str, list[str | int]]:
        if self._file is None:
            return {}
        try:
            digest, _, content = self._file.read_bytes().partition(b"\n")
        except OSError:
            return {}
        if hashlib.sha256(content).hexdigest().encode() != digest:
            return {}
        cached = json.loads(content)
        rows: dict[str, list[str | int]] = cached["rows"] if cached["made_with"] == self._made_with else {}
        return rows
