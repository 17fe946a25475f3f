"""List the members of a tar archive with their byte offsets; nothing is ever extracted."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from triscale.errors import DataError

PATH_KEY = "TRISCALE.path"
"""Keyword of the pax extended header that holds the path of an image if the member has another name."""

_KEY = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)", re.DOTALL)
_END = bytes(tarfile.BLOCKSIZE)


class TarMember(NamedTuple):
    """One member of an archive.

    Attributes:
        key: The name up to the first dot of its last component.
        suffix: The name after that dot, in lower case.
        name: The name in the archive, without a leading ``./``.
        path: The path of the image, or None if it follows from the name.
        kind: The type of the member; only the content of a file can be read.
        offset: Where its content begins, in bytes.
        size: Size of its content, in bytes.
    """

    key: str
    suffix: str
    name: str
    path: str | None
    kind: Literal["file", "link", "sparse file"]
    offset: int
    size: int


def members(archive: Path) -> Iterator[TarMember]:
    """Yield the members that have a key and a suffix, in order, without folders and hidden files.

    Args:
        archive: An uncompressed tar file.

    Raises:
        DataError: The archive is unreadable, compressed, damaged, truncated, or several archives concatenated.
    """
    try:
        with archive.open("rb") as file:
            size = archive.stat().st_size
            with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as opened:
                for info in opened:
                    if info.offset_data + info.size > size:
                        raise DataError(_damaged(archive, f"it is truncated within {info.name!a}"))
                    if member := _member(info):
                        yield member
                end = opened.offset
            _check_end(archive, file, end)
    except (tarfile.TarError, ValueError, EOFError, MemoryError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(_damaged(archive, str(error) or type(error).__name__)) from error
    except OSError as error:
        raise DataError(f"cannot read {archive} ({error.strerror}); make it readable") from error


def split_name(name: str) -> tuple[str, str] | None:
    """Split a name at the first dot of its last component; None if there is none.

    Example:
        >>> split_name("train/cat/1.seg.png")
        ('train/cat/1', 'seg.png')
    """
    matched = _KEY.fullmatch(name)
    return (matched[1], matched[2]) if matched else None


def _member(info: tarfile.TarInfo) -> TarMember | None:
    name = info.name.removeprefix("./")
    split = split_name(name)
    if split is None or not (info.isfile() or info.issym() or info.islnk()):
        return None
    kind: Literal["file", "link", "sparse file"] = (
        "sparse file" if info.issparse() else "file" if info.isfile() else "link"
    )
    return TarMember(
        split[0], split[1].lower(), name, info.pax_headers.get(PATH_KEY), kind, info.offset_data, info.size
    )


def _check_end(archive: Path, file: BinaryIO, end: int) -> None:
    """Check the end-of-archive marker, two zero blocks; Python's reader also stops silently at damaged headers."""
    file.seek(end)
    block = file.read(len(_END))
    if len(block) < len(_END):
        raise DataError(_damaged(archive, "it is truncated: the end-of-archive marker is missing"))
    if block != _END:
        raise DataError(_damaged(archive, f"the header at byte {end} has a wrong checksum"))
    while block := file.read(1 << 20):
        if block.count(0) != len(block):
            raise DataError(
                f"{archive} continues after its end-of-archive marker; concatenated archives are not supported: keep "
                f"them as separate files"
            )


def _damaged(archive: Path, why: str) -> str:
    return f"{archive} is damaged or not a tar archive ({why}); expected a complete, uncompressed .tar: create it again"
