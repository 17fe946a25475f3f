"""Find the splits, classes and files of a folder of images, in an order independent of the file system.

::

    root/                      or   root/
      cat/1.jpg, 2.jpg, ...           train/cat/1.jpg, ...
      dog/1.jpg, ...                  test/cat/1.jpg, ...
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from triscale.data.images.header import format_of
from triscale.data.sources.split_folders import EXPECTED, Entries, Role, find_class_folders, is_text, join
from triscale.errors import DataError

# Files and folders created by operating systems; @eaDir holds thumbnails that look like images.
_JUNK = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "lost+found", "$recycle.bin"}


class FoundFile(NamedTuple):
    """One file below a class folder.

    Attributes:
        path: Relative to the root, with ``/``.
        class_name: The name of its class; the names of its labels if images have any number of them.
        group: What a column of groups says; empty without one.
    """

    path: str
    class_name: str | tuple[str, ...]
    group: str = ""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of its labels, one if ``class_name`` is a text."""
        return (self.class_name,) if isinstance(self.class_name, str) else self.class_name


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders and files of a dataset; only files outside class folders have been opened.

    Attributes:
        root: What all paths are relative to: an absolute folder or a URL. It is below the given folder if that holds
            nothing but one folder.
        classes: For each split, its class names (in Unicode's composed form, NFC), sorted.
        files: For each split, the files below its class folders, sorted by path.
        stray: The images outside every class folder, sorted by path.
        unusable: Other items that cannot be labeled images, each with its reason.
        notes: A sentence for everything that was concluded and that the user should know.
        is_walked: Whether the files are everything in the class folders, images or not; otherwise a list names them.
    """

    root: str
    classes: dict[Role, tuple[str, ...]]
    files: dict[Role, tuple[FoundFile, ...]]
    stray: tuple[str, ...]
    unusable: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    is_walked: bool = False


def find_images(root: Path) -> Layout:
    """Find the class folders below a folder and the files in them.

    There are class folders (``root/<class>/...``), or split folders that each hold class folders, in any of the
    spellings of :func:`triscale.data.sources.split_folders.find_class_folders`. Everything below a class folder belongs
    to the class. A folder that holds nothing but one folder of folders is skipped, since archives are often
    unpacked to one. Hidden files and system files are ignored. A folder that several symbolic links point to is
    walked once.

    Args:
        root: The folder.

    Raises:
        DataError: The folder is missing, unreadable, or it is doubtful which folders are classes.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as temporary:
        ...     for name in ("cat/1.png", "dog/1.png"):
        ...         path = Path(temporary) / name
        ...         path.parent.mkdir()
        ...         path.touch()
        ...     layout = find_images(Path(temporary))
        >>> [(file.path, file.class_name) for file in layout.files["unsplit"]]
        [('cat/1.png', 'cat'), ('dog/1.png', 'dog')]
    """
    try:
        mode = root.stat().st_mode
    except (OSError, ValueError) as error:
        raise DataError(f"there is no folder {root} ({getattr(error, 'strerror', error)}); {EXPECTED}") from error
    if not stat.S_ISDIR(mode):
        raise DataError(f"{root} is not a folder; {EXPECTED}")
    if not is_text(str(root.absolute())):
        raise DataError(f"the path {str(root)!a} is not valid UTF-8; rename the folder")
    start = root.absolute()
    root = start / skip_single_folders(lambda path: entries(start / path))
    found = find_class_folders(str(root), lambda path: entries(root / path))
    starts = [_Place(role, name, folder) for role, named in found.of.items() for name, folder in named.items()]
    files: dict[Role, list[FoundFile]] = {role: [] for role in found.of}
    for role, name, path in _walk(root, starts, found.above):
        files[role].append(FoundFile(path, name))
    outside = {join(parent, name) for parent in found.above for name in entries(root / parent)[1]}
    return Layout(
        root=str(root),
        classes={role: tuple(sorted(named)) for role, named in found.of.items()},
        files={role: tuple(sorted(of_role)) for role, of_role in files.items()},
        stray=tuple(sorted(path for path in outside if _is_image(root / path))),
        notes=found.notes,
        is_walked=True,
    )


class _Place(NamedTuple):
    """A folder or a file of a class; the path is relative to the root."""

    role: Role
    class_name: str
    path: str


def is_visible(name: str) -> bool:
    """Return whether a file or folder is neither hidden nor created by the operating system."""
    return not name.startswith(".") and name.lower() not in _JUNK


def entries(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the folders and of the other visible entries in a folder, sorted.

    Raises:
        DataError: The folder cannot be read.
    """
    try:
        with os.scandir(folder) as scanned:
            kept = [entry for entry in scanned if is_visible(entry.name)]
            folders = sorted(entry.name for entry in kept if entry.is_dir())
    except OSError as error:
        raise DataError(f"cannot read the folder {folder} ({error.strerror}); make it readable") from error
    return folders, sorted({entry.name for entry in kept} - set(folders))


def skip_single_folders(inside: Entries) -> str:
    """Descend while a folder holds only one folder; return the root if that leads to no folder with several."""
    folder = ""
    for _ in range(16):  # limited, since the folder can be a symbolic link to a parent
        below = inside(folder)[0]
        if len(below) != 1:
            return folder if below else ""
        folder = join(folder, below[0])
    return ""


def _walk(root: Path, starts: list[_Place], above: frozenset[str]) -> Iterator[_Place]:
    """Yield every file below the class folders; real folders first, so that a link never claims their files."""
    visited = {_identity(root / path) for path in above}
    real = deque(start for start in starts if not (root / start.path).is_symlink())
    links = deque(start for start in starts if (root / start.path).is_symlink())
    while real or links:
        role, class_name, parent = (real or links).popleft()
        identity = _identity(root / parent)
        if identity in visited:
            continue
        visited.add(identity)
        folders, files = entries(root / parent)
        for name in folders:
            below = _Place(role, class_name, f"{parent}/{name}")
            (links if (root / below.path).is_symlink() else real).append(below)
        for name in files:
            yield _Place(role, class_name, f"{parent}/{name}")


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def printable(text: str) -> str:
    """Return a string with bytes that are not UTF-8 written as escapes."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _is_image(path: Path) -> bool:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            return format_of(file.read(256)) not in (None, "NPY")  # arrays beside images may hold anything
    except OSError:
        return False
