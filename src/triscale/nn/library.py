"""Compile the native kernels once per machine into the user's cache, and verify them at each load.

::

    <cache>/kernels-<key>.so           the library
    <cache>/kernels-<key>.so.sha256    its digest, written last: without it the library counts as absent
    <cache>/kernels-<key>.lock         held while compiling, so that concurrent processes compile once

The key covers source, flags and processor, but not the compiler: a machine without a compiler uses the cached library.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.resources
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from triscale.locks import LockedError, exclusive_lock
from triscale.places import cache_folder
from triscale.record import write_atomic

logger = logging.getLogger("triscale")

SWITCH = "TRISCALE_NATIVE"
"""Environment variable; ``0`` trains with torch's own operations."""

COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC")
"""No flag may let the compiler assume finite numbers (such as -ffast-math): a non-finite loss must stay non-finite."""

COMPILE_SECONDS = 300


@cache
def library() -> ctypes.CDLL | None:
    """Return the kernels for this machine, or None if they are unavailable; the reason is logged once as a warning.

    They are compiled at the first call on a machine, which takes seconds. A library that does not match its digest
    is compiled again: a truncated file would crash the process.

    Returns:
        The library; None if ``TRISCALE_NATIVE=0``, or if nothing is in the cache and it cannot be compiled.
    """
    if os.environ.get(SWITCH, "").strip() == "0":
        return None
    source = importlib.resources.files("triscale.nn").joinpath("kernels.cpp").read_bytes()
    path = cache_folder() / f"kernels-{_key(source, _processor(), ' '.join(FLAGS).encode())}.so"
    try:
        if not is_intact(path):
            _compile_once(source, path)
        return ctypes.CDLL(str(path))
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        _warn(f"{error.cmd[0]} failed: {lines[0]}")
    except (OSError, LockedError, subprocess.TimeoutExpired) as error:
        _warn(str(error))
    return None


def is_intact(path: Path) -> bool:
    """Return whether a compiled library exists and matches the digest in its ``.sha256`` file."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == _digest_file(path).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return False


def find_compiler() -> list[str] | None:
    """Return the command of a C++ compiler: ``$CXX``, which may have arguments, or the first of :data:`COMPILERS`."""
    chosen = shlex.split(os.environ.get("CXX", ""))
    if chosen:
        program = shutil.which(chosen[0])
        return None if program is None else [program, *chosen[1:]]
    program = next(filter(None, map(shutil.which, COMPILERS)), None)
    return None if program is None else [program]


def _compile_once(source: bytes, path: Path) -> None:
    """Compile the library, or wait for another process that does."""
    compiler = find_compiler()
    if compiler is None:
        requested = os.environ.get("CXX")
        tried = f"CXX={requested}" if requested else ", ".join(COMPILERS)
        raise OSError(f"no C++ compiler was found ({tried})")
    path.parent.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(path.with_suffix(".lock"), seconds=COMPILE_SECONDS):
        if not is_intact(path):  # another process may have compiled it while this one waited
            logger.info("compiling the native kernels with %s", compiler[0])
            # Without its digest a library is ignored, so a crash from here on leaves no library that looks valid.
            _digest_file(path).unlink(missing_ok=True)
            _compile(compiler, source, path)


def _compile(compiler: list[str], source: bytes, path: Path) -> None:
    """Compile in a temporary directory, then rename; the digest is written last.

    The library is linked without an OpenMP runtime: it uses the one that torch has loaded, and shares its threads.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".kernels-") as folder:
        code, compiled, linked = (Path(folder) / name for name in ("kernels.cpp", "kernels.o", "kernels.so"))
        code.write_bytes(source)
        undefined = ["-undefined", "dynamic_lookup"] if platform.system() == "Darwin" else []
        for arguments in (
            [*FLAGS, "-c", str(code), "-o", str(compiled)],
            ["-shared", *undefined, str(compiled), "-o", str(linked)],
        ):
            subprocess.run([*compiler, *arguments], capture_output=True, timeout=COMPILE_SECONDS, check=True)
        content = linked.read_bytes()
    write_atomic(path, content)
    write_atomic(_digest_file(path), hashlib.sha256(content).hexdigest().encode())


def _digest_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _processor() -> bytes:
    """Return the properties of the processor that ``-march=native`` depends on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_bytes().splitlines() if info.exists() else []
    # Only lines that decide which instructions exist; clock speeds change between calls.
    kept = [line for line in lines if line.split(b"\t")[0] in (b"flags", b"Features", b"model name", b"model")]
    return platform.machine().encode() + platform.processor().encode() + b"\n".join(sorted(set(kept)))


def _key(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:20]


def _warn(reason: str) -> None:
    logger.warning("training uses torch's own operations, at about half the speed: %s", reason)
