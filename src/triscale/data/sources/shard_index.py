"""Where each sample of a folder of shards lies: made once, kept as arrays that are mapped into memory."""

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

from triscale.data.sources.source import ROLE_FOLDERS, Role, is_text, printable
from triscale.data.sources.tars import TarMember, members
from triscale.errors import DataError, RecordError
from triscale.places import cache_folder
from triscale.record import Record, write_atomic

INDEX = "index.json"
CLASS_FILES = ("classes.json", "classes.txt")
IMAGE_SUFFIXES = frozenset(
    ("jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm", "pbm", "pnm")
)

ROW = np.dtype(
    [("hash", "<u8"), ("offset", "<i8"), ("size", "<i8"), ("name", "<i8"), ("shard", "<i4"), ("label", "<i4")]
)
"""One sample: a hash of its path, where its image lies in its shard, and where its path ends among all paths."""

_MAX_LABEL_BYTES = 1 << 20


class FileState(Record):
    """A file as it was when the index was made; one that differs makes the index stale."""

    name: str
    size_bytes: int
    mtime_ns: int


class IndexInfo(Record):
    """What the arrays of an index belong to.

    Attributes:
        shards: in the order in which the rows count them.
        classes: the class names; a label is an index into them.
        classes_file: where the names are from, if not from the labels.
        unusable: the samples that have no row, with the reason.
        rows: SHA-256 of the file of rows, sorted by their hash.
        names: SHA-256 of the file of paths in UTF-8, one behind the other in the order of the rows.
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
    """An index that fits its shards: the rows of :data:`ROW`, and the paths as bytes."""

    info: IndexInfo
    rows: NDArray[Any]
    names: NDArray[np.uint8]

    @property
    def paths(self) -> list[str]:
        """The paths of all rows."""
        content, ends = self.names.tobytes(), [0, *self.rows["name"].tolist()]
        return [content[start:end].decode() for start, end in pairwise(ends)]


def load_index(root: Path, roles: Mapping[str, Role]) -> ShardIndex:
    """Return the index beside the shards or in the cache folder, or make it and keep it in the cache folder.

    Raises:
        DataError: the shards cannot be indexed.
    """
    shards = [_state(root, name) for name in roles]
    classes_file = next((_state(root, name) for name in CLASS_FILES if (root / name).is_file()), None)
    kept = cache_folder() / "shards" / hashlib.sha256(str(root).encode(errors="surrogateescape")).hexdigest()[:32]
    for folder in (root, kept):
        index = _read(folder)
        if index and list(index.info.shards) == shards and index.info.classes_file == classes_file:
            return index
    index, contents = build_index(root, roles, shards, classes_file)
    try:
        write_index(kept, index, contents)
    except OSError:  # no room or no right: it is made again the next time
        return index
    return _read(kept) or index


def write_index(folder: Path, index: ShardIndex, contents: Iterable[bytes]) -> None:
    """Write an index so that the one before stays valid until the last moment."""
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
    """Go through all shards; also return the content of the two files of arrays."""
    samples: dict[str, _Sample] = {}
    unusable: list[tuple[str, str]] = []
    keys: dict[tuple[Role, str], str] = {}
    for number, (name, role) in enumerate(roles.items()):
        for key, group in groupby(members(root / name), key=lambda member: member.key):
            before = keys.setdefault((role, key), name)
            found = _sample(root / name, number, role, list(group))
            if isinstance(found, _Sample) and (before != name or found.path in samples):
                found = f"its key is there twice, in {before} and {name}"
            if isinstance(found, str):
                unusable.append((printable(f"{name}: {key}"), printable(found)))
            else:
                samples[found.path] = found
    if not samples and unusable:
        shown = "; ".join(f"{path}: {why}" for path, why in unusable[:3])
        raise DataError(f"no sample in the shards in {root} can be used ({shown}); expected KEY.jpg and KEY.cls")
    classes, labels = _labels(root, samples.values(), classes_file)
    listed = list(samples.values())
    hashes = [hash_of(sample.path.encode()) for sample in listed]
    ordered = sorted(range(len(listed)), key=lambda place: (hashes[place], listed[place].path))
    rows = np.zeros(len(listed), ROW)
    encoded = [listed[place].path.encode() for place in ordered]
    rows["name"] = np.cumsum([len(path) for path in encoded])
    for field in ("offset", "size", "shard"):
        rows[field] = [getattr(listed[place], field) for place in ordered]
    rows["label"] = [labels[place] for place in ordered]
    rows["hash"] = [hashes[place] for place in ordered]
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


def hash_of(path: bytes) -> int:
    """Return 64 bits that a path is found by."""
    return int.from_bytes(hashlib.blake2b(path, digest_size=8).digest(), "little")


class _Sample(NamedTuple):
    path: str
    shard: int
    offset: int
    size: int
    label: int | str


def _sample(archive: Path, shard: int, role: Role, group: list[TarMember]) -> _Sample | str:
    """Return a sample, or why it is none."""
    images = [member for member in group if member.suffix.rpartition(".")[2] in IMAGE_SUFFIXES]
    if not images:
        return f"no image among its files ({', '.join(member.name for member in group)})"
    if len(images) > 1:
        return f"it has {len(images)} images ({', '.join(member.name for member in images)}); expected one"
    image = images[0]
    if image.kind != "file":
        return f"its image is a {image.kind}"
    path = path_of(image.name, role) if image.path is None else image.path
    if not is_text(path):
        return "the name is not valid UTF-8"
    label = _label(archive, {member.suffix: member for member in group if member.kind == "file"})
    if not label[0]:
        return label[1]
    return _Sample(path, shard, image.offset, image.size, label[1] if label[0] == "name" else int(label[1]))


def path_of(name: str, role: Role) -> str:
    """Return the path of an image from its name in the archive: it begins with the part, if there are parts."""
    return name if role in ("unsplit", ROLE_FOLDERS.get(name.partition("/")[0].lower())) else f"{role}/{name}"


def _label(archive: Path, by_suffix: dict[str, TarMember]) -> tuple[str, str]:
    """Return ``("name", name)`` or ``("number", digits)``, or ``("", why)`` where there is no label."""
    member = by_suffix.get("cls") or by_suffix.get("json")
    if member is None:
        return "", "it has no .cls and no .json"
    if member.size > _MAX_LABEL_BYTES:
        return "", f"{member.name} holds {member.size} bytes; expected the class"
    with archive.open("rb") as file:
        file.seek(member.offset)
        content = file.read(member.size)
    try:
        given: object = content.decode().strip()
        if member.suffix == "json":
            table = json.loads(content)
            given = table.get("label", table.get("cls")) if isinstance(table, dict) else None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        return "", f"{member.name} is no {'JSON' if member.suffix == 'json' else 'text'}"
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return "number", str(given)
    if isinstance(given, str) and given and given.isprintable():
        number = member.suffix == "cls" and given.isascii() and given.isdigit() and len(given) < 10
        return ("number", given) if number else ("name", unicodedata.normalize("NFC", given))
    return "", f"{member.name} holds {repr(given)[:60]}; expected the number or the name of a class"


def _labels(root: Path, samples: Iterable[_Sample], file: FileState | None) -> tuple[tuple[str, ...], list[int]]:
    """Return the class names and the label of every sample."""
    if file is None:
        given = [sample.label for sample in samples]
        numbers = sorted({label for label in given if isinstance(label, int)})
        if all(isinstance(label, int) for label in given):
            places = {label: place for place, label in enumerate(numbers)}
            return tuple(map(str, numbers)), [places[int(label)] for label in given]
        names = sorted({str(label) for label in given})
        of_name = {name: place for place, name in enumerate(names)}
        return tuple(names), [of_name[str(label)] for label in given]
    classes = read_classes(root / file.name)
    by_name = {name: place for place, name in enumerate(classes)}
    labels = []
    for sample in samples:
        label = by_name.get(sample.label, -1) if isinstance(sample.label, str) else sample.label
        if not 0 <= label < len(classes):
            raise DataError(
                f"{sample.path} in {root} is of class {sample.label}, but {file.name} names {len(classes)} classes"
                f"{', numbered from 0' if isinstance(sample.label, int) else ' and not that one'}; correct one of them"
            )
        labels.append(label)
    return classes, labels


def read_classes(file: Path) -> tuple[str, ...]:
    """Read the names of classes: a list in JSON, or a line each.

    Raises:
        DataError: something else, or a name that is there twice.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        names: object = json.loads(text) if file.suffix == ".json" else text.splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the names of the classes in {file} ({error})") from error
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise DataError(f"{file} is no list of class names; expected a name in every place, the first of class 0")
    composed = tuple(unicodedata.normalize("NFC", name) for name in names)
    twice = sorted({name for name in composed if composed.count(name) > 1}) if len(set(composed)) < len(names) else []
    if twice:
        raise DataError(f"{file} names the class {twice[0]} twice; expected every class once")
    return composed


def _state(root: Path, name: str) -> FileState:
    try:
        found = (root / name).stat()
    except OSError as error:
        raise DataError(f"cannot read {root / name} ({error.strerror}); make it readable") from error
    return FileState(name=name, size_bytes=found.st_size, mtime_ns=found.st_mtime_ns)


def _read(folder: Path) -> ShardIndex | None:
    """Read an index; None where there is none, a newer or a damaged one."""
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
