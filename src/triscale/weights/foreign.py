"""Files of other projects that may hold code: looked at from outside, opened in a bounded child process."""

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

SECONDS = 300
"""That a file may take to be opened."""

MAX_BYTES = 16 << 30
MAX_MEMBERS = 100_000
_PIECE = 8 << 20

Kind = Literal["safetensors", "zip", "pickle", "tar", "bundle"]


@dataclass(frozen=True, slots=True)
class Opened:
    """What a file held.

    Attributes:
        tensors: by the names in the file.
        notes: what was taken from it, in sentences.
        peak_bytes: by how much the memory of the child grew.
    """

    tensors: dict[str, Tensor]
    notes: tuple[str, ...]
    peak_bytes: int


def kind_of(path: Path) -> Kind:
    """Tell by its first bytes what a file is.

    Raises:
        WeightsError: it is none that holds weights, is empty, too large, or no ordinary file.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode) or path.suffix == ".index":
            return "bundle"
        if not stat.S_ISREG(status.st_mode):
            raise WeightsError(f"{path} is no ordinary file")
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
    if start.startswith(b"PK\x03\x04"):
        return "zip"
    if start.startswith(b"\x1f\x8b") or start[257:262] == b"ustar":
        return "tar"
    if start.startswith(b"\x80"):
        return "pickle"
    if start[8:9] == b"{":
        return "safetensors"
    raise WeightsError(
        f"{path} is no file of weights that Triscale reads: safetensors, a PyTorch state dict, or a TensorFlow "
        "checkpoint (.index or .tar.gz)"
    )


def open_pickle(path: Path, kind: Literal["zip", "pickle"], part: str | None = None) -> Opened:
    """Return the state dict of a file of ``torch.save``.

    Nothing in the file is run: the child loads with ``weights_only=True`` under limits of memory (twice the file and
    200 MB), time and disk, and writes safetensors that are read here.

    Args:
        path: the file.
        kind: what :func:`kind_of` found.
        part: the path of the state dict inside, where several are.

    Raises:
        WeightsError: the file holds more than tensors, is damaged or a bomb, or has no state dict that can be told.
    """
    if kind == "zip":
        check_zip(path)
    with tempfile.TemporaryDirectory(prefix="triscale-") as folder:
        out = Path(folder) / "tensors.safetensors"
        answer = _ask(kind, path, out, part or "")
        tensors, _ = read_tensors(out)
    return Opened(tensors, tuple(answer["notes"]), answer["peak_bytes"])


@contextmanager
def unpacked_checkpoint(path: Path) -> Iterator[Path]:
    """Unpack the TensorFlow checkpoint in a tar archive into a folder that goes away afterwards.

    Raises:
        WeightsError: the archive is damaged or a bomb, or holds several checkpoints or none.
    """
    with tempfile.TemporaryDirectory(prefix="triscale-") as folder:
        _ask("tar", path, Path(folder), "")
        if not (Path(folder) / "model.index").is_file():
            raise WeightsError(f"{path} holds no TensorFlow checkpoint (no .index file)")
        yield Path(folder) / "model.index"


def check_zip(path: Path) -> None:
    """Make sure that a zip archive holds what it says and no more than its own size.

    Raises:
        WeightsError: it is cut off or damaged, or has members that are compressed, encrypted, or overlap.
    """
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            compressed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
            if compressed:
                raise WeightsError(
                    f'{path} has compressed members ("{compressed[0][:80]}"), which torch.save does not write; unpack '
                    "it if it is an archive around the weights"
                )
            if len(members) > MAX_MEMBERS or sum(member.file_size for member in members) > size:
                raise WeightsError(f"{path} has members that take more than the file: it is no file of torch.save")
            for member in members:
                with archive.open(member) as file:
                    while file.read(_PIECE):
                        pass
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError, zlib.error, OSError) as error:
        raise WeightsError(f"{path} is cut off or damaged ({error}); fetch it again") from error


def _ask(kind: str, path: Path, out: Path, part: str) -> dict[str, Any]:
    """Have a child open a file, and return its answer."""
    if not can_limit_process():
        raise WeightsError(
            f"{path} is a pickle, and this system cannot limit memory, time and disk of the process that opens "
            "it; convert the file to safetensors on Linux with: triscale weights import"
        )
    command = [sys.executable, "-P", "-m", "triscale.weights.child", kind, str(path.absolute()), str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "CUDA_VISIBLE_DEVICES": ""}
    try:
        child = subprocess.run(
            [*command, str(SECONDS), part],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=SECONDS + 60,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise WeightsError(f"{path} was not opened within {SECONDS} s and is given up") from None
    lines = child.stdout.splitlines()
    answer = json.loads(lines[-1]) if lines else {"refused": f"the process that read it ended ({child.returncode})"}
    if "refused" in answer:
        raise WeightsError(f"{path} is refused: {answer['refused']}")
    found: dict[str, Any] = answer
    return found
