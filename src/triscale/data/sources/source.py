"""Find the splits, classes and files of a folder of images, in an order independent of the file system.

::

    root/                      or   root/
      cat/1.jpg, 2.jpg, ...           train/cat/1.jpg, ...
      dog/1.jpg, ...                  test/cat/1.jpg, ...
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from triscale.data.images.header import format_of
from triscale.errors import DataError

Role = Literal["train", "val", "test", "unsplit"]
"""The split of the images of a folder; ``unsplit`` if no splits are given."""

ROLE_FOLDERS: dict[str, Role] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""The lower-case names of folders that denote a split."""

EXPECTED = "expected one folder for each class, or folders train and test (or val) that hold one for each class"

# Files and folders created by operating systems; @eaDir holds thumbnails that look like images.
_JUNK = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "lost+found", "$recycle.bin"}


class FoundFile(NamedTuple):
    """One file below a class folder.

    Attributes:
        path: Relative to the root, with ``/``.
        class_name: The name of its class.
    """

    path: str
    class_name: str


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
    """

    root: str
    classes: dict[Role, tuple[str, ...]]
    files: dict[Role, tuple[FoundFile, ...]]
    stray: tuple[str, ...]
    unusable: tuple[tuple[str, str], ...] = ()


def find_images(root: Path) -> Layout:
    """Find the class folders below a folder and the files in them.

    There are two layouts: class folders (``root/<class>/...``), and split folders (``train`` and one or two of ``val``,
    ``valid``, ``validation``, ``test``, in any case) that each hold class folders. Everything below a class folder
    belongs to the class. A folder that holds nothing but one folder of folders is skipped, since archives are often
    unpacked to one. Hidden files and system files are ignored. A folder that several symbolic links point to is
    walked once.

    Args:
        root: The folder.

    Raises:
        DataError: The folder is missing, unreadable, or has neither of the two layouts.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as temporary:
        ...     for name in ("cat/1.png", "dog/1.png"):
        ...         path = Path(temporary) / name
        ...         path.parent.mkdir()
        ...         path.touch()
        ...     layout = find_images(Path(temporary))
        >>> layout.files["unsplit"]
        (FoundFile(path='cat/1.png', class_name='cat'), FoundFile(path='dog/1.png', class_name='dog'))
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
    roles = role_folders(str(root), lambda path: entries(root / path))
    classes: dict[Role, tuple[str, ...]] = {}
    starts: list[_Place] = []
    for role, parent in roles.items():
        named = class_folders(str(root), parent, lambda path: entries(root / path))
        classes[role] = tuple(sorted(named))
        starts += [_Place(role, name, folder) for name, folder in named.items()]
    files: dict[Role, list[FoundFile]] = {role: [] for role in roles}
    for role, name, path in _walk(root, starts, above={"", *roles.values()}):
        files[role].append(FoundFile(path, name))
    outside = {join(parent, name) for parent in {"", *roles.values()} for name in entries(root / parent)[1]}
    return Layout(
        root=str(root),
        classes=classes,
        files={role: tuple(sorted(found)) for role, found in files.items()},
        stray=tuple(sorted(path for path in outside if _is_image(root / path))),
    )


class _Place(NamedTuple):
    """A folder or a file of a class; the path is relative to the root."""

    role: Role
    class_name: str
    path: str


Entries = Callable[[str], tuple[list[str], list[str]]]
"""From the path of a folder below a root to the names of the folders and of the other entries in it, sorted."""


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


def join(parent: str, name: str) -> str:
    """Return the path of an entry of a folder; the root is the empty path."""
    return f"{parent}/{name}" if parent else name


def skip_single_folders(inside: Entries) -> str:
    """Descend while a folder holds only one folder; return the root if that leads to no folder with several."""
    folder = ""
    for _ in range(16):  # limited, since the folder can be a symbolic link to a parent
        below = inside(folder)[0]
        if len(below) != 1:
            return folder if below else ""
        folder = join(folder, below[0])
    return ""


def role_folders(root: str, inside: Entries) -> dict[Role, str]:
    """Return the folder of each split; the root itself, as ``unsplit``, if it holds class folders.

    Args:
        root: The folder or URL, for messages.
        inside: Lists the folders and files in a folder.

    Raises:
        DataError: There are validation or test folders but no training folder, two folders for one split, or other
            folders next to them.
    """
    folders = inside("")[0]
    named: dict[Role, list[str]] = {}
    for name in folders:
        if role := ROLE_FOLDERS.get(name.lower()):
            named.setdefault(role, []).append(name)
    others = [name for name in folders if name.lower() not in ROLE_FOLDERS]
    if "train" not in named:
        if folders and not others:
            raise DataError(f"{root} holds {', '.join(folders)} but no folder train; {EXPECTED}")
        return {"unsplit": ""}
    for role, names in named.items():
        if len(names) > 1:
            raise DataError(f"{root} holds {' and '.join(names)}, which mean the same; keep one {role} folder")
    if len(named) == 1 and inside(named["train"][0])[1]:
        return {"unsplit": ""}  # it holds files, so it is a class with the name "train"
    if others:
        raise DataError(
            f"{root} holds {', '.join(others)} next to train; only val and test are expected there: rename or move "
            f"the others"
        )
    order: tuple[Role, ...] = ("train", "val", "test")
    return {role: named[role][0] for role in order if role in named}


def class_folders(root: str, parent: str, inside: Entries) -> dict[str, str]:
    """Return the class folders in a folder: from the name in Unicode's composed form to the path.

    Args:
        root: The folder or URL, for messages.
        parent: Path of the folder relative to the root.
        inside: Lists the folders and files in a folder.

    Raises:
        DataError: A name is not valid UTF-8, or two names differ only in their Unicode form.
    """
    named: dict[str, str] = {}
    location = f"{root}/{parent}".rstrip("/")
    for name in inside(parent)[0]:
        composed = unicodedata.normalize("NFC", name)
        if not is_text(name):
            raise DataError(f"the name of the class folder {name!a} in {location} is not valid UTF-8; rename it")
        if composed in named:
            other = named[composed].rpartition("/")[2]
            raise DataError(
                f"the class folders {other!a} and {name!a} in {location} have the same name, spelled with different "
                f"Unicode characters; rename or merge them"
            )
        named[composed] = join(parent, name)
    return named


def _walk(root: Path, starts: list[_Place], above: set[str]) -> Iterator[_Place]:
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


def is_text(name: str) -> bool:
    """Return whether a file name is valid UTF-8; Python represents other bytes as lone surrogates."""
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


def printable(text: str) -> str:
    """Return a string with bytes that are not UTF-8 written as escapes."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _is_image(path: Path) -> bool:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            return format_of(file.read(16)) is not None
    except OSError:
        return False
