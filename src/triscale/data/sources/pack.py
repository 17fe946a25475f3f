"""Pack a dataset into tar shards; equal images give equal bytes."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, NamedTuple

from triscale.data.images.color import BadImage
from triscale.data.images.other_formats import ARRAY_SUFFIX, IMAGE_SUFFIXES
from triscale.data.sources.local import is_url
from triscale.data.sources.scanned import Scan, ScannedImage
from triscale.data.sources.shard_index import (
    CLASS_FILES,
    FileState,
    build_index,
    image_path,
    write_index,
)
from triscale.data.sources.shards import shard_roles
from triscale.data.sources.split_folders import Role
from triscale.data.sources.store import Store, open_store
from triscale.data.sources.tars import PATH_KEY, split_name
from triscale.errors import DataError
from triscale.locks import LockedError, exclusive_lock
from triscale.record import Record, atomic_directory, write_atomic
from triscale.results.data_summary import BadFile

SHARD_BYTES = 256_000_000
"""Default maximum size of a shard."""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}
_SUFFIXES = {
    "AVIF": "avif",
    "BMP": "bmp",
    "GIF": "gif",
    "HEIF": "heic",
    "JPEG": "jpg",
    "JXL": "jxl",
    "NPY": "npy",
    "PNG": "png",
    "PPM": "ppm",
    "TIFF": "tif",
    "WEBP": "webp",
}
"""For each format that is read, the suffix of a packed image whose name has none."""


class PackedSplit(Record):
    """The shards of one split.

    Attributes:
        split: The name of the split, or ``unsplit``.
        shards: Number of tar files.
        images: Number of images.
        bytes: Total size of the tar files.
    """

    split: Role
    shards: int
    images: int
    bytes: int


class Packed(Record):
    """The result of packing.

    Attributes:
        folder: The folder of the shards.
        classes: The class names.
        splits: The shards of each split.
        bad: The unreadable files that were left out.
    """

    kind_name: ClassVar[str] = "packed"
    schema_number: ClassVar[int] = 2

    folder: str
    classes: tuple[str, ...]
    splits: tuple[PackedSplit, ...]
    bad: tuple[BadFile, ...]


def shard_size(text: str) -> int:
    """Parse a size such as ``256MB`` or ``1GiB`` into bytes.

    Raises:
        DataError: The text is not a size, or less than one byte.

    Example:
        >>> shard_size("256MB"), shard_size("1 KiB")
        (256000000, 1024)
    """
    matched = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMG]I?)?B?", text.strip().upper())
    size = round(float(matched[1]) * _UNITS[matched[2] or ""]) if matched else 0
    if size < 1:
        raise DataError(f'the shard size is "{text}"; expected a number of bytes such as 256MB or 1GiB')
    return size


def pack(
    scan: Scan,
    out: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Packed:
    """Write the images of a scan as tar shards in WebDataset layout, with the class names and an index.

    Splits, paths and labels are kept, so that everything derived from them (a random split, the sample order) is the
    same for the shards. The name of a tar member is the path of the image, unless the path has no image suffix, more
    than one dot, or the key of another image. Then the name is made from the SHA-256 of the path, and the path itself
    is stored in the extended header of the member. The folder is created atomically.

    ::

        train-000000.tar:  cat/1.jpg  cat/1.cls  cat/2.jpg  cat/2.cls  ...
        train-000001.tar:  ...
        classes.json  index.json  index-....npy

    Args:
        scan: The images to pack; bad files are left out.
        out: The folder to create; it must not exist or be empty, and must not be inside the images.
        shard_bytes: Maximum size of a shard; a larger sample gets its own shard.
        progress: Called with the number of images done and the total.

    Raises:
        DataError: The folder is not empty, is inside the images or cannot be written, an image has changed since the
            scan, or images are grouped or have any number of labels.
    """
    if scan.multi_label:
        raise DataError(
            f"the images in {scan.root} have any number of labels, which shards do not hold; train on the table instead"
        )
    if scan.grouped_by:
        raise DataError(
            f"tar shards do not keep the groups of images (by {scan.grouped_by}); pack without groups, and group the "
            f"shards by --group-regex, since they keep the paths"
        )
    check_output_folder(scan.root, out)
    store, done = open_store(scan.root), 0
    splits: list[PackedSplit] = []
    try:
        with _locked_folder(out) as folder:
            for role, images in scan.by_role.items():
                shards = 0
                for shard in _shards(images, shard_bytes):
                    name = f"{'images' if role == 'unsplit' else role}-{shards:06d}.tar"
                    _write_shard(folder / name, store, shard, role)
                    done, shards = done + len(shard), shards + 1
                    progress(done, scan.num_images)
                size = sum(path.stat().st_size for path in folder.glob("*.tar")) - sum(split.bytes for split in splits)
                splits.append(PackedSplit(split=role, shards=shards, images=len(images), bytes=size))
            names = json.dumps(scan.classes, ensure_ascii=False, indent=0) + "\n"
            write_atomic(folder / CLASS_FILES[0], names.encode())
            _write_index(folder)
    except OSError as error:
        raise DataError(f"cannot write to {out} ({error.strerror}); give another folder with --out") from error
    return Packed(folder=str(out), classes=scan.classes, splits=tuple(splits), bad=scan.bad)


def check_output_folder(root: str, out: Path) -> None:
    """Check that a folder can be created: it is empty or does not exist, and is not inside the images.

    Raises:
        DataError: It is not such a folder.
    """
    if not is_url(root) and out.resolve().is_relative_to(Path(root).resolve()):
        raise DataError(f"{out} is inside {root}, where nothing is written; give another folder with --out")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DataError(f"{out} exists already; give a new folder with --out")


@contextmanager
def _locked_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to ``out`` on success; leftovers of a killed process are removed."""
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = out.with_name(f".{out.name}.lock")
    try:
        with exclusive_lock(lock):
            try:
                for leftover in out.parent.glob(f".{glob.escape(out.name)}.*.part"):
                    shutil.rmtree(leftover, ignore_errors=True)
                with atomic_directory(out) as folder:
                    yield folder
            finally:
                with contextlib.suppress(OSError):  # an open file cannot be removed on Windows
                    lock.unlink()
    except LockedError:
        raise DataError(f"another process is packing into {out}; wait for it, or give another --out") from None


class _Named(NamedTuple):
    """An image with the key and the suffix of its tar member."""

    image: ScannedImage
    key: str
    suffix: str


def _shards(images: Sequence[ScannedImage], shard_bytes: int) -> Iterator[list[_Named]]:
    """Divide images into shards of at most ``shard_bytes``; a larger sample gets its own shard."""
    shard: list[_Named] = []
    room = shard_bytes
    for named in _names(images):
        size = 2 * tarfile.BLOCKSIZE + _whole_blocks(named.image.num_bytes) + _whole_blocks(1)
        if shard and size > room:
            yield shard
            shard, room = [], shard_bytes
        shard.append(named)
        room -= size
    if shard:
        yield shard


def _names(images: Sequence[ScannedImage]) -> Iterator[_Named]:
    used: set[str] = set()
    for image in sorted(images, key=lambda image: image.path):
        split = split_name(image.path)
        plain = not image.path.startswith("/") and ".." not in image.path.split("/")
        if split is None or not plain or split[1].lower() not in (*IMAGE_SUFFIXES, ARRAY_SUFFIX) or split[0] in used:
            digest = hashlib.sha256(image.path.encode()).hexdigest()[:20]
            folder = image.path.rpartition("/")[0] if plain else ""
            split = f"{folder}/{digest}".lstrip("/"), _SUFFIXES[image.format]
        used.add(split[0])
        yield _Named(image, *split)


def _write_shard(archive: Path, store: Store, shard: Sequence[_Named], role: Role) -> None:
    with archive.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar:
            for image, key, suffix in shard:
                name = f"{key}.{suffix}"
                path = None if image_path(name, role) == image.path else image.path
                _add(tar, name, _content(store, image), path)
                _add(tar, f"{key}.cls", str(image.label).encode())
        file.flush()
        os.fsync(file.fileno())


def _content(store: Store, image: ScannedImage) -> bytes:
    try:
        content = store.read(image.path)
    except BadImage as error:
        raise DataError(f"{store.location(image.path)} can no longer be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != image.sha256:
        raise DataError(f"{store.location(image.path)} changed while the images were packed; pack them again")
    return content


def _add(tar: tarfile.TarFile, name: str, content: bytes, path: str | None = None) -> None:
    member = tarfile.TarInfo(name)  # the defaults are deterministic: mode 644, owner 0, time 0
    member.size = len(content)
    if path is not None:
        member.pax_headers = {PATH_KEY: path}
    tar.addfile(member, io.BytesIO(content))


def _write_index(folder: Path) -> None:
    roles = shard_roles(folder)

    def state(name: str) -> FileState:
        status = (folder / name).stat()
        return FileState(name=name, size_bytes=status.st_size, mtime_ns=status.st_mtime_ns)

    write_index(folder, *build_index(folder, roles, [state(name) for name in roles], state(CLASS_FILES[0])))


def _whole_blocks(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
