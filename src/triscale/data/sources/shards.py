"""Read images from tar shards in WebDataset layout, in any order, by their byte offsets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from triscale.data.images.color import BadImage
from triscale.data.images.decode import DEFAULT_LIMITS, ImageLimits
from triscale.data.images.other_formats import has_image_suffix
from triscale.data.sources.scan_cache import FileStamp
from triscale.data.sources.shard_index import ShardIndex, hash_path, load_index
from triscale.data.sources.source import FoundFile, Layout, entries
from triscale.data.sources.split_folders import ROLE_WORDS, Entries, Role
from triscale.errors import DataError

MAX_OPEN = 64
"""Maximum number of shards that a process keeps open."""

_ORDER: tuple[Role, ...] = ("train", "val", "test")


def is_shards(root: Path) -> bool:
    """Return whether a local folder holds tar shards and no class folders."""
    return root.is_dir() and holds_shards(lambda path: entries(root / path))


def holds_shards(inside: Entries) -> bool:
    """Return whether a folder holds only tar shards, or split folders that hold only tar shards.

    Args:
        inside: Lists the folders and files in a folder by its relative path.

    Example:
        >>> holds_shards(lambda path: ([], ["train-000000.tar", "classes.json"]))
        True
    """
    folders, files = inside("")
    if not folders:
        return any(map(is_tar, files)) and not any(map(has_image_suffix, files))
    if any(name.lower() not in ROLE_WORDS for name in folders):
        return False
    return all(not below and any(map(is_tar, names)) for below, names in map(inside, folders))


def find_shards(root: Path) -> Layout:
    """Find the samples in a folder of tar shards through their index, which is built if there is none.

    A sample consists of adjacent tar members with the same key (the name up to the first dot): an image, and ``.cls``
    with the number or name of its class as text, or ``.json`` with ``label`` or ``cls``. The names of numbered classes
    are in ``classes.json``, a list, or ``classes.txt``, one per line. Splits are given by the names of the shards, such
    as ``train-000000.tar``, or by folders train, val and test.

    The path of a sample is the name of its image in the archive, preceded by the split if splits are given.

    Args:
        root: The folder of the shards.

    Raises:
        DataError: A shard is unreadable or damaged, only some shards have a split, or a label does not fit the class
            names.
    """
    root = root.absolute()
    roles = shard_roles(root)
    index = load_index(root, roles)
    files: dict[Role, list[FoundFile]] = {role: [] for role in dict.fromkeys(roles.values())}
    by_shard = [roles[shard.name] for shard in index.info.shards]
    for path, shard, label in zip(index.paths, index.rows["shard"].tolist(), index.rows["label"].tolist(), strict=True):
        files[by_shard[shard]].append(FoundFile(path, index.info.classes[label]))
    named = index.info.classes if index.info.classes_file else ()
    present = {role: {*named, *(name for one in found for name in one.class_names)} for role, found in files.items()}
    return Layout(
        root=str(root),
        classes={role: tuple(name for name in index.info.classes if name in names) for role, names in present.items()},
        files={role: tuple(sorted(found)) for role, found in files.items()},
        stray=(),
        unusable=index.info.unusable,
    )


def shard_roles(root: Path) -> dict[str, Role]:
    """Return the shards of a folder, by their relative paths, in order, and the split of each.

    Raises:
        DataError: Only some shards have a split, or there is no training split.
    """
    folders, files = entries(root)
    role_of: dict[str, Role | None] = {name: role_in_filename(name) for name in files if is_tar(name)}
    for folder in folders:
        role = ROLE_WORDS[folder.lower()]
        role_of |= {f"{folder}/{name}": role for name in entries(root / folder)[1] if is_tar(name)}
    splits = set(role_of.values())
    if splits in ({None}, {"train"}):
        return dict.fromkeys(sorted(role_of), "unsplit")
    without_split = [name for name, role in role_of.items() if role is None]
    if without_split:
        raise DataError(
            f"{len(without_split)} of {len(role_of)} shards in {root} have no split in their name "
            f"({', '.join(without_split[:3])}); "
            f"expected train, val or test in the name of every shard or of none"
        )
    if "train" not in splits:
        raise DataError(
            f"{root} holds shards for {' and '.join(sorted(map(str, splits)))} but none for train; add them"
        )
    return {name: role for split in _ORDER for name, role in sorted(role_of.items()) if role == split}


class Shards:
    """Read the images in a folder of shards; see :class:`triscale.data.sources.store.Store`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._index: ShardIndex = load_index(root, shard_roles(root))
        self._hashes = np.ascontiguousarray(self._index.rows["hash"])
        self._ends = np.concatenate([[0], self._index.rows["name"]])
        self._names = np.asarray(self._index.names)
        self._open: dict[int, _Opened] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Shards, (self.root,)

    def read(self, path: str, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
        """Return the bytes of an image; see :class:`triscale.data.sources.store.Store`."""
        row = self._row(path)
        if row is None:
            raise BadImage("not in the shards")
        entry = self._index.rows[row]
        size, offset = int(entry["size"]), int(entry["offset"])
        if size > limits.file_bytes:
            raise BadImage(f"{size} bytes, more than the limit of {limits.file_bytes}")
        try:
            opened = self._opened(int(entry["shard"]))  # this reference keeps other threads from closing it
            content = _read_at(opened.handle, offset, size)
        except OSError as error:
            raise BadImage(f"cannot be read ({error.strerror})") from error
        if len(content) < size:
            raise BadImage(f"cut off: the shard holds {len(content)} of {size} bytes")
        return content

    def stamp(self, path: str) -> FileStamp:
        """Return the state of the shard and the offset in it; see :class:`triscale.data.sources.store.Store`."""
        row = self._row(path)
        if row is None:
            return FileStamp("", 0)
        entry = self._index.rows[row]
        shard = self._index.info.shards[entry["shard"]]
        state = f"{shard.name} {shard.size_bytes} {shard.mtime_ns} {entry['offset']} {entry['size']}"
        return FileStamp(state, shard.mtime_ns)

    def missing(self, paths: Iterable[str]) -> list[str]:
        """Return the paths that are not in the shards."""
        present = set(self._index.paths)
        return [path for path in paths if path not in present]

    def location(self, path: str) -> str:
        """Return the shard and the path."""
        row = self._row(path)
        shard = "" if row is None else self._index.info.shards[self._index.rows[row]["shard"]].name
        return f"{path} in {self.root / shard}"

    def _row(self, path: str) -> int | None:
        encoded = path.encode(errors="surrogateescape")
        hashed = np.uint64(hash_path(encoded))
        row = int(self._hashes.searchsorted(hashed))
        while row < len(self._hashes) and self._hashes[row] == hashed:
            if self._names[self._ends[row] : self._ends[row + 1]].tobytes() == encoded:
                return row
            row += 1
        return None

    def _opened(self, shard: int) -> _Opened:
        """Return an open shard; without a lock, which another thread could hold while this process is forked."""
        opened = self._open.get(shard)
        if opened is None:
            opened = self._open[shard] = _Opened(self.root / self._index.info.shards[shard].name)
            for oldest in list(self._open)[:-MAX_OPEN]:
                self._open.pop(oldest, None)
        return opened


class _Opened:
    """An open file, closed with its last reference."""

    def __init__(self, path: Path) -> None:
        self.handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            os.close(self.handle)


def _read_at(handle: int, offset: int, size: int) -> bytes:
    """Read at an offset, independent of other users of the descriptor."""
    content = os.pread(handle, size, offset)
    while len(content) < size:
        more = os.pread(handle, size - len(content), offset + len(content))
        if not more:
            break
        content += more
    return content


def is_tar(name: str) -> bool:
    """Return whether a file has the suffix of a shard."""
    return name.lower().endswith(".tar")


def role_in_filename(name: str) -> Role | None:
    """Return the split that a word of a file name gives; None if no word or several do.

    Example:
        >>> role_in_filename("train-000000.tar"), role_in_filename("images-000000.tar")
        ('train', None)
    """
    roles = {ROLE_WORDS[word] for word in re.split(r"[-_. ]", name.lower()) if word in ROLE_WORDS}
    return roles.pop() if len(roles) == 1 else None
