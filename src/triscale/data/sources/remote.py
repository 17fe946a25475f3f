"""Remote datasets, for example in S3: listed once; each object is downloaded once into the cache folder."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from triscale.data.images.color import BadImage, FileTooLarge
from triscale.data.images.decode import DEFAULT_LIMITS, ImageLimits
from triscale.data.images.other_formats import has_image_suffix
from triscale.data.sources.fetch import Connection, RemoteObject
from triscale.data.sources.scan_cache import FileStamp
from triscale.data.sources.shard_index import CLASS_FILES
from triscale.data.sources.shards import Shards, find_shards, holds_shards, is_tar
from triscale.data.sources.source import FoundFile, Layout, is_visible, skip_single_folders
from triscale.data.sources.split_folders import Entries, Role, find_class_folders, join
from triscale.errors import DataError, RecordError
from triscale.places import cache_folder
from triscale.record import Record, atomic_file

_PARALLEL_SHARDS = 4


class Listing(Record):
    """The objects below a URL.

    Attributes:
        url: The URL.
        objects: Path, size in bytes and tag of each object; the tag changes with the content.
    """

    kind_name: ClassVar[str] = "listing"

    url: str
    objects: tuple[tuple[str, int, str], ...]

    @property
    def by_path(self) -> dict[str, RemoteObject]:
        """The objects by their paths."""
        return {path: RemoteObject(size, tag) for path, size, tag in self.objects}


def find_remote(url: str) -> Layout:
    """Find the images at a URL: class folders or tar shards, as in a local folder.

    This function refreshes the list of objects in the cache folder. If that fails, the cached list is used with a
    warning. Shards are downloaded completely.

    Args:
        url: Such as ``s3://bucket/images``.

    Raises:
        DataError: The URL cannot be listed, or its layout is unknown.
    """
    url = url.rstrip("/")
    listing = _list(url)
    inside = _entries(listing.by_path)
    if holds_shards(inside):
        mirror = _mirror(url, listing.by_path)
        return replace(find_shards(mirror), root=url)
    below = skip_single_folders(inside)
    if below:
        url, listing = f"{url}/{below}", _below(listing, below)
        inside = _entries(listing.by_path)
        _save_listing(listing)
    found = find_class_folders(url, inside)
    named = {folder: (role, name) for role, of_role in found.of.items() for name, folder in of_role.items()}
    files: dict[Role, list[FoundFile]] = {role: [] for role in found.of}
    stray, unusable = [], []
    for path in sorted(listing.by_path):
        parts = path.split("/")
        if "" in parts:
            unusable.append((path, "one component of its path is empty"))
        elif all(map(is_visible, parts)):
            above = ("/".join(parts[:depth]) for depth in range(1, len(parts)))
            role_and_name = next((named[folder] for folder in above if folder in named), None)
            if role_and_name:
                files[role_and_name[0]].append(FoundFile(path, role_and_name[1]))
            elif has_image_suffix(path):
                stray.append(path)
    return Layout(
        root=url,
        classes={role: tuple(sorted(of_role)) for role, of_role in found.of.items()},
        files={role: tuple(of_role) for role, of_role in files.items()},
        stray=tuple(stray),
        unusable=tuple(unusable),
        notes=found.notes,
        is_walked=True,
    )


class RemoteFiles:
    """Read the objects at a URL through the cache folder; see :class:`triscale.data.sources.store.Store`."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._objects = listing.by_path
        self._connection = Connection(listing.url)

    def read(self, path: str, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
        """Return the bytes of an object, downloaded if it is not in the cache folder.

        Raises:
            BadImage: There is no such object, or it is larger than the limits allow.
            DataError: It could not be downloaded.
        """
        listed = self._objects.get(path)
        if listed is None:
            raise BadImage("no such object")
        if listed.size > limits.file_bytes:
            raise FileTooLarge(f"{listed.size} bytes, more than the limit of {limits.file_bytes}")
        cached = _cache_path(self._listing.url, path, listed)
        content = _content(cached, listed.size)
        if content is None:
            _fetch(self._connection, path, listed, cached)
            content = cached.read_bytes()
        return content

    def stamp(self, path: str) -> FileStamp:
        """Return size and tag of an object; see :class:`triscale.data.sources.store.Store`."""
        listed = self._objects.get(path)
        return FileStamp(f"{listed.size} {listed.tag}" if listed and listed.tag else "", 0)

    def missing(self, paths: Iterable[str]) -> list[str]:
        """Return the paths that are not in the list of objects."""
        return [path for path in paths if path not in self._objects]

    def location(self, path: str) -> str:
        """Return the URL of an object."""
        return f"{self._listing.url}/{path}"


def open_remote(url: str) -> RemoteFiles | Shards:
    """Open the images at a URL, with the cached list of its objects or a new one.

    Raises:
        DataError: There is no cached list and none can be made, or shards cannot be downloaded.
    """
    url = url.rstrip("/")
    listing = _cached_listing(url) or _list(url)
    if holds_shards(_entries(listing.by_path)):
        return Shards(_mirror(url, listing.by_path))
    return RemoteFiles(listing)


def _list(url: str) -> Listing:
    try:
        objects = Connection(url).list()
    except DataError as error:
        cached = _cached_listing(url)
        if cached is None:
            raise
        warnings.warn(f"{error}; using the cached list of objects instead", stacklevel=2)
        return cached
    listing = Listing(url=url, objects=tuple((path, *objects[path]) for path in sorted(objects)))
    _save_listing(listing)
    return listing


def _cached_listing(url: str) -> Listing | None:
    try:
        listing = Listing.load(_folder(url) / "listing.json")
    except RecordError:
        return None
    return listing if listing.url == url else None


def _save_listing(listing: Listing) -> None:
    try:
        listing.save(_folder(listing.url) / "listing.json")
    except OSError as error:
        raise _cache_error(error) from error


def _below(listing: Listing, folder: str) -> Listing:
    prefix = f"{folder}/"
    objects = tuple(
        (path.removeprefix(prefix), size, tag) for path, size, tag in listing.objects if path.startswith(prefix)
    )
    return Listing(url=f"{listing.url}/{folder}", objects=objects)


def _entries(objects: Iterable[str]) -> Entries:
    """Return a function that lists the folders and files in each folder of a list of objects."""
    folders: dict[str, tuple[set[str], set[str]]] = {"": (set(), set())}
    for path in objects:
        parts = path.split("/")
        if "" not in parts and all(map(is_visible, parts)):
            parent = ""
            for name in parts[:-1]:
                folders[parent][0].add(name)
                parent = join(parent, name)
                folders.setdefault(parent, (set(), set()))
            folders[parent][1].add(parts[-1])
    return lambda path: (sorted(folders[path][0]), sorted(folders[path][1]))


def _mirror(url: str, objects: Mapping[str, RemoteObject]) -> Path:
    """Download shards into a cache folder whose name is a hash of their sizes and tags."""
    selected = {
        path: listed
        for path, listed in objects.items()
        if all(map(is_visible, path.split("/"))) and (is_tar(path) or path in CLASS_FILES)
    }
    digest = hashlib.sha256(repr(sorted(selected.items())).encode()).hexdigest()
    folder, connection = _folder(url) / f"shards-{digest[:16]}", Connection(url)

    def fetch(path: str) -> None:
        cached, listed = folder / path, selected[path]
        if not cached.is_file() or cached.stat().st_size != listed.size:
            _fetch(connection, path, listed, cached)

    pool = ThreadPoolExecutor(_PARALLEL_SHARDS, thread_name_prefix="shards")
    try:
        for fetched in [pool.submit(fetch, path) for path in sorted(selected)]:
            fetched.result()
    except BadImage as error:
        raise DataError(f"a shard in {url} cannot be downloaded ({error}); run the same command again") from error
    finally:
        pool.shutdown(cancel_futures=True)
    return folder


def _fetch(connection: Connection, path: str, listed: RemoteObject, cached: Path) -> None:
    """Download an object to its path in the cache; concurrent downloads of it are harmless."""
    try:
        with atomic_file(cached) as file:
            connection.fetch(path, listed, file.write)
    except OSError as error:
        raise _cache_error(error) from error


def _content(path: Path, size: int) -> bytes | None:
    """Return the content of a file of the cache if it exists and has the expected size."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return content if len(content) == size else None


def _folder(url: str) -> Path:
    return cache_folder() / "remote" / hashlib.sha256(url.encode(errors="surrogateescape")).hexdigest()[:32]


def _cache_path(url: str, path: str, listed: RemoteObject) -> Path:
    """Return the cache path of an object, which changes with its content."""
    digest = hashlib.sha256("\0".join((url, path, str(listed.size), listed.tag)).encode()).hexdigest()
    return cache_folder() / "remote" / "files" / digest[:2] / digest[2:40]


def _cache_error(error: OSError) -> DataError:
    return DataError(
        f"cannot write to the cache in {cache_folder()} ({error.strerror or error}); free some space there, or set "
        f"TRISCALE_CACHE to another folder"
    )
