"""One interface to read the bytes of images, wherever they are stored."""

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
    """The images of one dataset, by their paths relative to its root, with ``/``.

    Many threads and processes read a store at once: it is thread-safe, safe after a fork, and can be pickled.
    """

    def read(self, path: str, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
        """Return the bytes of an image.

        Raises:
            BadImage: The image does not exist, cannot be read, or is larger than the limits allow.
        """
        ...

    def stamp(self, path: str) -> FileStamp:
        """Return the identity of an image's content without reading it; its state is empty if it is unknown."""
        ...

    def missing(self, paths: Iterable[str]) -> list[str]:
        """Return the paths that do not exist, in the given order."""
        ...

    def location(self, path: str) -> str:
        """Return where an image is, for messages."""
        ...


@dataclass(frozen=True, slots=True)
class Folder:
    """Files below a folder; absolute paths and paths that lead out of it are followed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     _ = (Path(root) / "1.png").write_bytes(b"...")
        ...     Folder(Path(root)).missing(["1.png", "2.png"])
        ['2.png']
    """

    root: Path

    def read(self, path: str, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
        """Return the bytes of a file; see :class:`Store`."""
        return read_bytes(self.root / path, limits)

    def stamp(self, path: str) -> FileStamp:
        """Return size, times and inode of a file; see :class:`Store`."""
        try:
            status = os.stat(os.path.join(self.root, path))  # noqa: PTH116, PTH118 - faster than pathlib
        except (OSError, ValueError):
            return FileStamp("", 0)  # reading it reports the reason
        state = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
        return FileStamp(state, max(status.st_mtime_ns, status.st_ctime_ns))

    def missing(self, paths: Iterable[str]) -> list[str]:
        """Return the paths that are not files."""
        return [path for path in paths if not os.path.isfile(self.root / path)]  # noqa: PTH113 - no error of long names

    def location(self, path: str) -> str:
        """Return the file's path."""
        return str(self.root / path)


def open_store(root: str) -> Store:
    """Open the store of a dataset: a URL, a folder of tables, of tar shards, or of files.

    Args:
        root: The root of a scan or a split.

    Raises:
        DataError: Shards or tables cannot be read, or a URL that is not cached cannot be reached.
    """
    if is_url(root):
        return open_remote(root)
    folder = Path(root)
    if is_tables(folder):
        return ImageTables(folder)
    return Shards(folder) if is_shards(folder) else Folder(folder)
