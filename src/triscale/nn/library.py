"""The native kernels: compiled once for this machine into the user's cache, loaded from there afterwards."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.resources
import platform
import shutil
import subprocess
import tempfile
import warnings
from functools import cache
from pathlib import Path

from triscale.places import cache_folder

COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC")
"""No flag that would let the compiler assume finite numbers: a loss that is not finite has to stay so."""

COMPILE_SECONDS = 300


@cache
def library() -> ctypes.CDLL | None:
    """Return the kernels of this machine, or None where they cannot be compiled; the reason is a warning, given once.

    They are compiled at the first call on a machine, which takes a few seconds, and are kept in
    the cache folder (:mod:`triscale.places`) under a digest of source, compiler, flags and processor.
    Processes may call at the same time.
    """
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        _note(f"no C++ compiler was found ({', '.join(COMPILERS)})")
        return None
    source = importlib.resources.files("triscale.nn").joinpath("kernels.cpp").read_bytes()
    try:
        version = subprocess.run(
            [compiler, "--version"], capture_output=True, timeout=COMPILE_SECONDS, check=True
        ).stdout
        path = cache_folder() / f"kernels-{_digest(source, version, _processor(), ' '.join(FLAGS).encode())}.so"
        if not path.exists():
            _compile(compiler, source, path)
        return ctypes.CDLL(str(path))
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        _note(f"{compiler} failed: {lines[0]}")
    except (OSError, subprocess.TimeoutExpired) as error:
        _note(str(error))
    return None


def _compile(compiler: str, source: bytes, path: Path) -> None:
    """Compile aside and rename, so that other processes see all of the library or nothing.

    Linked without an OpenMP runtime: its functions are then those of the runtime that torch has loaded, whose threads
    the kernels share.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".kernels-") as aside:
        code, compiled, linked = (Path(aside) / name for name in ("kernels.cpp", "kernels.o", "kernels.so"))
        code.write_bytes(source)
        undefined = ["-undefined", "dynamic_lookup"] if platform.system() == "Darwin" else []
        for arguments in (
            [*FLAGS, "-c", str(code), "-o", str(compiled)],
            ["-shared", *undefined, str(compiled), "-o", str(linked)],
        ):
            subprocess.run([compiler, *arguments], capture_output=True, timeout=COMPILE_SECONDS, check=True)
        linked.replace(path)


def _processor() -> bytes:
    """Return what ``-march=native`` depends on."""
    described = Path("/proc/cpuinfo")
    lines = described.read_bytes().splitlines() if described.exists() else []
    kept = [line for line in lines if line.split(b"\t")[0] in (b"flags", b"Features", b"model name", b"model")]
    return platform.machine().encode() + platform.processor().encode() + b"\n".join(sorted(set(kept)))


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:20]


def _note(reason: str) -> None:
    warnings.warn(
        f"training runs on torch's own operations, at perhaps half the speed: {reason}", RuntimeWarning, stacklevel=3
    )
