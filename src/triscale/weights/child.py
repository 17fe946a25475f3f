"""The sandbox process that opens untrusted files: limited in memory, time and disk, and unable to start processes.

Run as ``python -m triscale.weights.child FORMAT FILE OUT SECONDS PART``. It writes a safetensors file (or, from a tar
archive, the files of a TensorFlow checkpoint) and prints one line of JSON. Every other outcome counts as a refusal.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import pickle
import re
import shutil
import sys
import tarfile
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from triscale.compat import limit_process
from triscale.errors import WeightsError
from triscale.weights.tensors import TYPES, write_tensors
from triscale.weights.unwrap import find_state

SPARE_BYTES = 200 << 20
"""Memory allowed in addition to :data:`MAX_SIZE_RATIO` times the file."""

MAX_SIZE_RATIO = 2
"""Maximum memory, and maximum size of the tensors, relative to the file."""

MAX_COMPRESSION_RATIO = 10
"""Maximum unpacked size of an archive relative to its file: weights hardly compress, archive bombs do."""

SAVE_STATE = (
    "; where its classes are known, save the state dict alone: torch.save(model.state_dict(), FILE), or for a "
    "dictionary torch.save(torch.load(FILE, weights_only=False)['state_dict'], FILE)"
)

_FORBIDDEN = re.compile(r"(subprocess|os\.(system|exec|fork|spawn|posix_spawn|kill)|socket|ctypes)\b")
_CHECKPOINT = re.compile(r"\.(index|data-\d{5}-of-\d{5})$")


PLAIN_VALUES: tuple[Any, ...] = (
    argparse.Namespace,
    pathlib.PosixPath,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")),
    *((np.float64(0).__reduce__()[0], f"numpy.{module}.multiarray.scalar") for module in ("_core", "core")),
)
"""Values that training programs save beside weights, such as options and the best accuracy; they run no code."""


def main() -> None:
    """Open the file given on the command line and print the result."""
    kind, given, out, seconds, part = sys.argv[1:]
    sys.excepthook = _report_refusal
    sys.setrecursionlimit(2000)
    path = Path(given)
    size = path.stat().st_size
    _limit_resources(size, int(seconds))
    if kind == "tar":
        notes: tuple[str, ...] = ()
        _unpack(path, Path(out), size)
    else:
        with torch.serialization.safe_globals(list(PLAIN_VALUES)):
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=kind == "zip")
        state, notes = find_state(loaded, part or None)
        _check(state, size)
        write_tensors(Path(out), state, {})
    _report({"notes": notes})


def _limit_resources(size: int, seconds: int) -> None:
    """Limit memory, CPU time, file size and audit events to what opening a file of this size needs."""
    space = _status("VmSize") + MAX_SIZE_RATIO * size + SPARE_BYTES
    written = max(MAX_SIZE_RATIO, MAX_COMPRESSION_RATIO) * size + SPARE_BYTES
    limit_process(memory=space, cpu_seconds=seconds, file_bytes=written)
    sys.addaudithook(_forbid)


def _forbid(event: str, _: tuple[Any, ...]) -> None:
    if _FORBIDDEN.match(event):
        raise PermissionError(f"the file tried to run {event}")


def _check(state: dict[str, Tensor], size: int) -> None:
    # Tensors may share storage, which would expand to more than the file when they are written out.
    total = 0
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.dtype not in TYPES.values():
            raise WeightsError(f'"{name}" is {tensor.dtype}, {tensor.layout}; expected a dense tensor of numbers')
        total += tensor.numel() * tensor.element_size()
    if total > MAX_SIZE_RATIO * size:
        raise WeightsError(f"its tensors take {total} bytes in a file of {size} bytes: they share storage")


def _unpack(path: Path, folder: Path, size: int) -> None:
    """Unpack the files of a TensorFlow checkpoint under fixed names, so that no path leads out of the folder."""
    unpacked = 0
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            unpacked += member.size
            if unpacked > MAX_COMPRESSION_RATIO * size + (1 << 20):
                raise WeightsError(f"it unpacks to more than {MAX_COMPRESSION_RATIO} times its size")
            match = _CHECKPOINT.search(member.name)
            if match is None or not member.isfile():
                continue
            target = folder / f"model.{match[1]}"
            content = archive.extractfile(member)
            if target.exists() or content is None:
                raise WeightsError("it holds several checkpoints; unpack it and give one of them")
            with target.open("wb") as file:
                shutil.copyfileobj(content, file, 1 << 20)


def _status(field: str) -> int:
    """Return a memory statistic of this process in bytes."""
    match = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024


def _report_refusal(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    reason = str(error)
    if issubclass(kind, pickle.UnpicklingError):
        # Without torch's advice to trust the class, which nobody should follow for a file of unknown origin.
        match = re.search(r"GLOBAL \S+", reason) or re.search(r"(?:Unsupported|Trying to) [^\n]*|global[^\n]*", reason)
        named = reason if match is None else match[0].replace("GLOBAL ", "an object of ")
        reason = f"it holds more than tensors: {named}"[:300] + SAVE_STATE
    elif issubclass(kind, MemoryError) or "allocate memory" in reason:
        reason = "it needs more memory than weights of this size should"
    elif not issubclass(kind, WeightsError):
        reason = f"{kind.__name__}: {' '.join(reason.split())[:300]}"
    _report({"refused": reason})


def _report(result: dict[str, Any]) -> None:
    result["peak_bytes"] = _status("VmHWM") - _BEFORE
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


_BEFORE = _status("VmHWM")

if __name__ == "__main__":
    main()
