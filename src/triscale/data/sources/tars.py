"""The members of a tar archive with their places in the file; nothing is ever unpacked."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from triscale.errors import DataError

PATH_KEY = "TRISCALE.path"
"""The record of a member's extended header that holds the path of an image whose name cannot be the member's."""

_KEY = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)", re.DOTALL)
_END = bytes(tarfile.BLOCKSIZE)


class TarMember(NamedTuple):
    """One member of an archive.

    Attributes:
        key: the name up to the first dot of its last part.
        suffix: the name behind that dot, in lower case.
        name: as the archive has it, without ``./`` before it.
        path: the image's path, or None where it follows from the name.
        kind: what it is; only the bytes of a file can be read.
        offset: where its content begins, in bytes.
        size: of its content, in bytes.
    """

    key: str
    suffix: str
    name: str
    path: str | None
    kind: Literal["file", "link", "sparse file"]
    offset: int
    size: int


def members(archive: Path) -> Iterator[TarMember]:
    """Yield the members that have a key and a suffix, in their order: no folders and no hidden files.

    Raises:
        DataError: the archive cannot be read, is compressed, damaged, cut off, or several archives joined.
    """
    try:
        with archive.open("rb") as file:
            size = archive.stat().st_size
            with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as opened:
                for info in opened:
                    if info.offset_data + info.size > size:
                        raise DataError(_damaged(archive, f"it is cut off within {info.name!a}"))
                    if found := _member(info):
                        yield found
                end = opened.offset
            _check_end(archive, file, end)
    except (tarfile.TarError, ValueError, EOFError, MemoryError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(_damaged(archive, str(error) or type(error).__name__)) from error
    except OSError as error:
        raise DataError(f"cannot read {archive} ({error.strerror}); make it readable") from error


def split_name(name: str) -> tuple[str, str] | None:
    """Return key and suffix of a name: what stands before and behind the first dot of its last part, if one does."""
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
    """Refuse what Python's reader takes for the end of an archive and is none."""
    file.seek(end)
    block = file.read(len(_END))
    if len(block) < len(_END):
        raise DataError(_damaged(archive, "it is cut off: the end mark is missing"))
    if block != _END:
        raise DataError(_damaged(archive, f"the header at byte {end} has a wrong checksum"))
    while block := file.read(1 << 20):
        if block.count(0) != len(block):
            raise DataError(f"{archive} holds more behind its end mark; archives joined into one are not read")


def _damaged(archive: Path, why: str) -> str:
    return f"{archive} is damaged or no tar archive ({why}); expected an uncompressed .tar, whole: make or copy it anew"
