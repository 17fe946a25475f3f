"""Where the bytes of images lie, and one way to read them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from triscale.data.images.decode import DEFAULT_LIMITS, ImageLimits, read_bytes
from triscale.data.sources.local import is_url
from triscale.data.sources.remote import open_remote
from triscale.data.sources.scan_cache import FileStamp
from triscale.data.sources.shards import Shards, is_shards
from triscale.data.sources.tables import ImageTables, is_tables


class Store(Protocol):
    """The images of one set by their paths, which are relative to its root, with ``/``.

    A store is read by many threads and processes at once: it is safe after a fork, and can be pickled.
    """

    def read(self, path: str, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
        """Return the bytes of an image.

        Raises:
            BadImage: there is none, it cannot be read, or it is larger than the limits allow.
        """
        ...

    def stamp(self, path: str) -> FileStamp:
        """Return what changes when the bytes of an image do; an empty state if nothing is known to.

        Raises:
            BadImage: there is no such image.
        """
        ...

    def missing(self, paths: Iterable[str]) -> list[str]:
        """Return the paths of which nothing is there, in the order given."""
        ...

    def location(self, path: str) -> str:
        """Return where an image lies, in words that lead a person to it."""
        ...


@dataclass(frozen=True, slots=True)
class Folder:
    """Files below a folder; a path that is absolute or leads out of it is followed."""

    root: Path

    def read(self, path: str, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
        """Return the bytes of a file; see :class:`Store`."""
        return read_bytes(self.root / path, limits)

    def stamp(self, path: str) -> FileStamp:
        """Return size, times and inode of a file; see :class:`Store`."""
        try:
            found = os.stat(os.path.join(self.root, path))  # noqa: PTH116, PTH118 - many times a scan
        except (OSError, ValueError):
            return FileStamp("", 0)  # reading it says why
        state = f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"
        return FileStamp(state, max(found.st_mtime_ns, found.st_ctime_ns))

    def missing(self, paths: Iterable[str]) -> list[str]:
        """Return the paths at which there is no file."""
        return [path for path in paths if not os.path.isfile(self.root / path)]  # noqa: PTH113 - no error of long names

    def location(self, path: str) -> str:
        """Return the file's path."""
        return str(self.root / path)


def open_store(root: str) -> Store:
    """Return the store that a root names: an address, a folder of tables, one of tar shards, or one of files.

    Args:
        root: what a scan or a split gives as its root.

    Raises:
        DataError: shards that cannot be read, or an address that nothing was fetched from yet and is out of reach.
    """
    if is_url(root):
        return open_remote(root)
    folder = Path(root)
    if is_tables(folder):
        return ImageTables(folder)
    return Shards(folder) if is_shards(folder) else Folder(folder)
