"""The index of a folder of shards: where each sample is, computed once and stored as memory-mapped arrays.

::

    index.json          the shards with size and time, the class names, the SHA-256 of both arrays
    index-<rows>.npy    ROW per sample, sorted by the hash of its path
    index-<names>.npy   the paths in UTF-8, concatenated; rows[i]["name"] is where path i ends
"""

from __future__ import annotations

import hashlib
import io
import json
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from triscale.data.images.other_formats import ARRAY_SUFFIX, IMAGE_SUFFIXES
from triscale.data.sources.source import printable
from triscale.data.sources.split_folders import ROLE_WORDS, Role, is_text
from triscale.data.sources.tars import TarMember, members
from triscale.errors import DataError, RecordError
from triscale.places import cache_folder
from triscale.record import Record, write_atomic

INDEX = "index.json"
CLASS_FILES = ("classes.json", "classes.txt")

ROW = np.dtype(
    [("hash", "<u8"), ("offset", "<i8"), ("size", "<i8"), ("name", "<i8"), ("shard", "<i4"), ("label", "<i4")]
)
"""One sample: hash of its path, offset and size of its image in the shard, end of its path, shard and label."""

_MAX_LABEL_BYTES = 1 << 20


class FileState(Record):
    """The state of a file when the index was made; the index is stale if it differs."""

    name: str
    size_bytes: int
    mtime_ns: int


class IndexInfo(Record):
    """The metadata of an index.

    Attributes:
        shards: The shards, in the order that ``shard`` in the rows refers to.
        classes: The class names; a label is an index into them.
        classes_file: The file that the class names are from, if they are not from the labels.
        unusable: The samples without a row, with the reason.
        rows: SHA-256 of the file of rows.
        names: SHA-256 of the file of paths.
    """

    kind_name: ClassVar[str] = "shard index"

    shards: tuple[FileState, ...]
    classes: tuple[str, ...]
    classes_file: FileState | None
    unusable: tuple[tuple[str, str], ...]
    rows: str
    names: str


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """A valid index.

    Attributes:
        info: The metadata.
        rows: Array of :data:`ROW`.
        names: The concatenated paths, uint8.
    """

    info: IndexInfo
    rows: NDArray[Any]
    names: NDArray[np.uint8]

    @property
    def paths(self) -> list[str]:
        """The paths of all rows."""
        content, ends = self.names.tobytes(), [0, *self.rows["name"].tolist()]
        return [content[start:end].decode() for start, end in pairwise(ends)]


def load_index(root: Path, roles: Mapping[str, Role]) -> ShardIndex:
    """Return the index stored next to the shards or in the cache folder; build and cache it if there is none.

    Args:
        root: The folder of the shards.
        roles: The shards, relative to the folder, and their splits.

    Raises:
        DataError: The shards cannot be indexed.
    """
    shards = [_state(root, name) for name in roles]
    classes_file = next((_state(root, name) for name in CLASS_FILES if (root / name).is_file()), None)
    cached = cache_folder() / "shards" / hashlib.sha256(str(root).encode(errors="surrogateescape")).hexdigest()[:32]
    for folder in (root, cached):
        index = _read(folder)
        if index and list(index.info.shards) == shards and index.info.classes_file == classes_file:
            return index
    index, contents = build_index(root, roles, shards, classes_file)
    try:
        write_index(cached, index, contents)
    except OSError:  # no space or no permission: it is built again the next time
        return index
    return _read(cached) or index


def write_index(folder: Path, index: ShardIndex, contents: Iterable[bytes]) -> None:
    """Write an index atomically: the arrays first, under new names, and the file that refers to them last.

    Args:
        folder: Where to write it.
        index: The index.
        contents: The two files of arrays, as :func:`build_index` returns them.
    """
    names = [_array_file(digest) for digest in (index.info.rows, index.info.names)]
    for name, content in zip(names, contents, strict=True):
        write_atomic(folder / name, content)
    index.info.save(folder / INDEX)
    for old in folder.glob("index-*.npy"):
        if old.name not in names:
            old.unlink(missing_ok=True)


def build_index(
    root: Path, roles: Mapping[str, Role], shards: list[FileState], classes_file: FileState | None
) -> tuple[ShardIndex, tuple[bytes, bytes]]:
    """Read all shards and build their index.

    Args:
        root: The folder of the shards.
        roles: The shards, relative to the folder, and their splits.
        shards: The state of each shard.
        classes_file: The state of the file of class names, if there is one.

    Returns:
        The index, and the content of its two files of arrays.

    Raises:
        DataError: A shard is damaged, no sample is usable, or a label does not fit the class names.
    """
    samples: dict[str, _Sample] = {}
    unusable: list[tuple[str, str]] = []
    keys: dict[tuple[Role, str], str] = {}
    for number, (name, role) in enumerate(roles.items()):
        for key, group in groupby(members(root / name), key=lambda member: member.key):
            first_shard = keys.setdefault((role, key), name)
            parsed = _sample(root / name, number, role, list(group))
            if isinstance(parsed, _Sample) and (first_shard != name or parsed.path in samples):
                parsed = f"its key occurs twice, in {first_shard} and {name}"
            if isinstance(parsed, str):
                unusable.append((printable(f"{name}: {key}"), printable(parsed)))
            else:
                samples[parsed.path] = parsed
    if not samples and unusable:
        shown = "; ".join(f"{path}: {why}" for path, why in unusable[:3])
        raise DataError(f"no sample in the shards in {root} is usable ({shown}); expected KEY.jpg and KEY.cls")
    classes, labels = _labels(root, samples.values(), classes_file)
    listed = list(samples.values())
    hashes = [hash_path(sample.path.encode()) for sample in listed]
    ordered = sorted(range(len(listed)), key=lambda position: (hashes[position], listed[position].path))
    rows = np.zeros(len(listed), ROW)
    encoded = [listed[position].path.encode() for position in ordered]
    rows["name"] = np.cumsum([len(path) for path in encoded])
    for field in ("offset", "size", "shard"):
        rows[field] = [getattr(listed[position], field) for position in ordered]
    rows["label"] = [labels[position] for position in ordered]
    rows["hash"] = [hashes[position] for position in ordered]
    names = np.frombuffer(b"".join(encoded), np.uint8)
    contents = _npy(rows), _npy(names)
    info = IndexInfo(
        shards=tuple(shards),
        classes=classes,
        classes_file=classes_file,
        unusable=tuple(unusable),
        rows=hashlib.sha256(contents[0]).hexdigest(),
        names=hashlib.sha256(contents[1]).hexdigest(),
    )
    return ShardIndex(info, rows, names), contents


def hash_path(path: bytes) -> int:
    """Return the 64-bit hash that a path is looked up by.

    Example:
        >>> hash_path(b"cat/1.png").bit_length() <= 64
        True
    """
    return int.from_bytes(hashlib.blake2b(path, digest_size=8).digest(), "little")


class _Sample(NamedTuple):
    path: str
    shard: int
    offset: int
    size: int
    label: int | str


def _sample(archive: Path, shard: int, role: Role, group: list[TarMember]) -> _Sample | str:
    """Return a sample, or why its members are not one."""
    images = [member for member in group if member.suffix.rpartition(".")[2] in IMAGE_SUFFIXES]
    images = images or [member for member in group if member.suffix.rpartition(".")[2] == ARRAY_SUFFIX]
    if not images:
        return f"there is no image among its files ({', '.join(member.name for member in group)})"
    if len(images) > 1:
        return f"it has {len(images)} images ({', '.join(member.name for member in images)}); expected one"
    image = images[0]
    if image.kind != "file":
        return f"its image is a {image.kind}"
    path = image_path(image.name, role) if image.path is None else image.path
    if not is_text(path):
        return "the name is not valid UTF-8"
    label = _label(archive, {member.suffix: member for member in group if member.kind == "file"})
    if not label[0]:
        return label[1]
    return _Sample(path, shard, image.offset, image.size, label[1] if label[0] == "name" else int(label[1]))


def image_path(name: str, role: Role) -> str:
    """Return the path of an image from its name in the archive; it begins with the split, if there are splits."""
    return name if role in ("unsplit", ROLE_WORDS.get(name.partition("/")[0].lower())) else f"{role}/{name}"


def _label(archive: Path, by_suffix: dict[str, TarMember]) -> tuple[str, str]:
    """Return ``("name", name)`` or ``("number", digits)``, or ``("", why)`` where there is no label."""
    member = by_suffix.get("cls") or by_suffix.get("json")
    if member is None:
        return "", "it has no .cls and no .json"
    if member.size > _MAX_LABEL_BYTES:
        return "", f"{member.name} has {member.size} bytes; expected a class"
    with archive.open("rb") as file:
        file.seek(member.offset)
        content = file.read(member.size)
    try:
        label: object = content.decode().strip()
        if member.suffix == "json":
            table = json.loads(content)
            label = table.get("label", table.get("cls")) if isinstance(table, dict) else None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        return "", f"{member.name} is not {'JSON' if member.suffix == 'json' else 'text'}"
    if isinstance(label, int) and not isinstance(label, bool) and label >= 0:
        return "number", str(label)
    if isinstance(label, str) and label and label.isprintable():
        number = member.suffix == "cls" and label.isascii() and label.isdigit() and len(label) < 10
        return ("number", label) if number else ("name", unicodedata.normalize("NFC", label))
    return "", f"{member.name} holds {repr(label)[:60]}; expected the number or the name of a class"


def _labels(root: Path, samples: Iterable[_Sample], file: FileState | None) -> tuple[tuple[str, ...], list[int]]:
    """Return the class names and the label of every sample."""
    if file is None:
        labels_given = [sample.label for sample in samples]
        numbers = sorted({label for label in labels_given if isinstance(label, int)})
        if all(isinstance(label, int) for label in labels_given):
            index_of = {label: index for index, label in enumerate(numbers)}
            return tuple(map(str, numbers)), [index_of[int(label)] for label in labels_given]
        names = sorted({str(label) for label in labels_given})
        of_name = {name: index for index, name in enumerate(names)}
        return tuple(names), [of_name[str(label)] for label in labels_given]
    classes = read_classes(root / file.name)
    by_name = {name: index for index, name in enumerate(classes)}
    labels = []
    for sample in samples:
        label = by_name.get(sample.label, -1) if isinstance(sample.label, str) else sample.label
        if not 0 <= label < len(classes):
            raise DataError(
                f"{sample.path} in {root} is of class {sample.label}, but {file.name} names {len(classes)} classes"
                f"{', numbered from 0' if isinstance(sample.label, int) else ', not including it'}; correct one of them"
            )
        labels.append(label)
    return classes, labels


def read_classes(file: Path) -> tuple[str, ...]:
    """Read class names from a JSON list or from lines of text.

    Raises:
        DataError: The file has another content, or a name occurs twice.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        names: object = json.loads(text) if file.suffix == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read the class names in {file} ({error}); expected UTF-8 text or a JSON list"
        ) from error
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise DataError(f"{file} is not a list of class names; expected one name per class, beginning with class 0")
    composed = tuple(unicodedata.normalize("NFC", name) for name in names)
    repeated = (
        sorted({name for name in composed if composed.count(name) > 1}) if len(set(composed)) < len(names) else []
    )
    if repeated:
        raise DataError(f"{file} lists the class {repeated[0]} twice; expected every class once")
    return composed


def _state(root: Path, name: str) -> FileState:
    try:
        status = (root / name).stat()
    except OSError as error:
        raise DataError(f"cannot read {root / name} ({error.strerror}); make it readable") from error
    return FileState(name=name, size_bytes=status.st_size, mtime_ns=status.st_mtime_ns)


def _read(folder: Path) -> ShardIndex | None:
    """Read an index; None if there is none, or it is newer or damaged."""
    try:
        info = IndexInfo.load(folder / INDEX)
        arrays = [_mapped(folder, digest) for digest in (info.rows, info.names)]
    except (RecordError, OSError, ValueError):
        return None
    if arrays[0] is None or arrays[1] is None or arrays[0].dtype != ROW:
        return None
    return ShardIndex(info, arrays[0], arrays[1])


def _mapped(folder: Path, digest: str) -> NDArray[Any] | None:
    path = folder / _array_file(digest)
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            return None
    array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _array_file(digest: str) -> str:
    return f"index-{digest[:16]}.npy"


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
