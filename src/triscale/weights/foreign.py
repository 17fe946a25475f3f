"""Open untrusted checkpoint files: detect their format, check archives, and unpickle them in a sandbox process."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from triscale.compat import can_limit_process
from triscale.errors import WeightsError
from triscale.weights.tensors import read_tensors

TIMEOUT = 300
"""Maximum CPU seconds to open a file."""

MAX_BYTES = 16 << 30
MAX_MEMBERS = 100_000
_CHUNK = 8 << 20

FileFormat = Literal["safetensors", "zip", "pickle", "tar", "bundle"]


@dataclass(frozen=True, slots=True)
class OpenedCheckpoint:
    """The content of an opened file.

    Attributes:
        tensors: The tensors, by their names in the file.
        notes: Notes on the choices made, for example between plain and averaged weights.
        peak_bytes: Memory growth of the sandbox process.
    """

    tensors: dict[str, Tensor]
    notes: tuple[str, ...]
    peak_bytes: int


def detect_format(path: Path) -> FileFormat:
    r"""Return the format of a file, recognized by its first bytes.

    Raises:
        WeightsError: The format is unknown, or the file is missing, empty, too large or not a regular file.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "weights.pth"
        ...     _ = path.write_bytes(b"PK\x03\x04...")
        ...     detect_format(path)
        'zip'
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode) or path.suffix == ".index":
            return "bundle"
        if not stat.S_ISREG(status.st_mode):
            raise WeightsError(f"{path} is not a regular file")
        with path.open("rb") as file:
            start = file.read(262)
    except FileNotFoundError:
        if path.with_name(path.name + ".index").is_file():
            return "bundle"
        raise WeightsError(f"there is no file {path}") from None
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from error
    if not 0 < status.st_size <= MAX_BYTES:
        raise WeightsError(f"{path} has {status.st_size} bytes; expected 1 to {MAX_BYTES}")
    if _begins_safetensors(start):
        return "safetensors"
    if start.startswith(b"PK\x03\x04"):
        return "zip"
    if start.startswith(b"\x1f\x8b") or start[257:262] == b"ustar":
        return "tar"
    if start.startswith(b"\x80"):
        return "pickle"
    raise WeightsError(
        f"{path} is not a weights file that Triscale can read; expected safetensors, a PyTorch state dict, or a "
        "TensorFlow checkpoint (.index or .tar.gz)"
    )


def _begins_safetensors(start: bytes) -> bool:
    """Return whether a file begins with the length of a header, below 4 GiB, and the JSON of the header.

    The first bytes of the length may be those that mark a pickle, a zip or a gzip file. None of these has four zeros
    and a brace after them: a zip has its version there, a gzip file 0, 2 or 4 for the brace, and a pickle the length of
    its first frame or its first values.
    """
    return len(start) > 8 and start[4:8] == bytes(4) and start[8:9] == b"{"


def open_pickle(path: Path, kind: Literal["zip", "pickle"], part: str | None = None) -> OpenedCheckpoint:
    """Return the state dict in a file written by ``torch.save``.

    No code in the file is executed: a sandbox process loads it with ``weights_only=True`` under limits of memory (twice
    the file plus 200 MB), time and disk, and writes safetensors, which this process reads.

    Args:
        path: The file.
        kind: The result of :func:`detect_format`.
        part: The path of the state dict inside the file, if there are several.

    Raises:
        WeightsError: The file holds more than tensors, is damaged or an archive bomb, or its state dict is missing or
            ambiguous.
    """
    if kind == "zip":
        check_zip(path)
    with tempfile.TemporaryDirectory(prefix="triscale-") as folder:
        out = Path(folder) / "tensors.safetensors"
        report = _run_child(kind, path, out, part or "")
        tensors, _ = read_tensors(out)
    return OpenedCheckpoint(tensors, tuple(report["notes"]), report["peak_bytes"])


@contextmanager
def unpack_checkpoint(path: Path) -> Iterator[Path]:
    """Unpack the TensorFlow checkpoint in a tar archive into a temporary folder, and yield its index file.

    Raises:
        WeightsError: The archive is damaged or a bomb, or holds several checkpoints or none.
    """
    with tempfile.TemporaryDirectory(prefix="triscale-") as folder:
        _run_child("tar", path, Path(folder), "")
        if not (Path(folder) / "model.index").is_file():
            raise WeightsError(f"{path} holds no TensorFlow checkpoint (no .index file)")
        yield Path(folder) / "model.index"


def check_zip(path: Path) -> None:
    """Check that a zip archive is intact and does not expand beyond its own size.

    Raises:
        WeightsError: It is truncated or damaged, or has members that are compressed, encrypted or overlapping.
    """
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            compressed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
            if compressed:
                raise WeightsError(
                    f'{path} has compressed members ("{compressed[0][:80]}"), which torch.save does not write; unpack '
                    "it if it is an archive that contains the weights file"
                )
            if len(members) > MAX_MEMBERS or sum(member.file_size for member in members) > size:
                raise WeightsError(f"{path} has members larger than the file: it was not written by torch.save")
            for member in members:
                with archive.open(member) as file:
                    while file.read(_CHUNK):
                        pass
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError, zlib.error, OSError) as error:
        raise WeightsError(f"{path} is truncated or damaged ({error}); download it again") from error


def _run_child(kind: str, path: Path, out: Path, part: str) -> dict[str, Any]:
    """Open a file in a sandbox process, and return its answer."""
    if not can_limit_process():
        raise WeightsError(
            f"{path} is a pickle, and this system cannot limit memory, time and disk of the process that opens "
            "it; convert the file to safetensors on Linux with: triscale weights import"
        )
    command = [sys.executable, "-P", "-m", "triscale.weights.child", kind, str(path.absolute()), str(out)]
    # -P keeps the current directory, which may be the user's downloads, out of sys.path.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "CUDA_VISIBLE_DEVICES": ""}
    try:
        child = subprocess.run(
            [*command, str(TIMEOUT), part],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=TIMEOUT + 60,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise WeightsError(f"{path} could not be opened within {TIMEOUT} s") from None
    lines = child.stdout.splitlines()
    answer = (
        json.loads(lines[-1])
        if lines
        else {"refused": f"the process that opened it ended with code {child.returncode}"}
    )
    if "refused" in answer:
        raise WeightsError(f"{path} was refused: {answer['refused']}")
    found: dict[str, Any] = answer
    return found
