"""The native kernels: compiled once, verified before use, optional."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sizes import stressed

pytestmark = pytest.mark.process

STEP = """
import torch, triscale, triscale.nn.library
from triscale.families import get
from triscale.nn.build import build
model = build(get("mobilenet_v2").replace(classes=3)).train()
model(torch.randn(2, 3, 32, 32)).sum().backward()
print(triscale.nn.library.library() is not None, all(value.grad.isfinite().all() for value in model.parameters()))
"""


def start(cache: Path, path: str | None = None, **variables: str) -> subprocess.Popen[str]:
    environment = os.environ | {"TRISCALE_CACHE": str(cache), "OMP_NUM_THREADS": "1"} | variables
    if path is not None:
        environment["PATH"] = path
    return subprocess.Popen(
        [sys.executable, "-c", STEP], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def step(cache: Path, path: str | None = None, **variables: str) -> tuple[str, str]:
    """Return what a training step prints: whether native kernels are used, whether gradients are finite; and stderr."""
    process = start(cache, path, **variables)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out.strip(), err


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> Path:
    """A cache with a compiled library."""
    cache = tmp_path_factory.mktemp("compiled")
    assert step(cache) == ("True True", "")
    return cache


def library_in(cache: Path) -> Path:
    (library,) = cache.glob("kernels-*.so")
    return library


def test_concurrent_processes_compile_once(tmp_path):
    compiler = tmp_path / "bin" / "c++"
    compiler.parent.mkdir()
    log = tmp_path / "calls"
    compiler.write_text(f'#!/bin/sh\necho call >> {log}\nexec {shutil.which("c++")} "$@"\n')
    compiler.chmod(0o755)
    running = [start(tmp_path / "cache", CXX=str(compiler)) for _ in range(3)]
    for process in running:
        out, err = process.communicate(timeout=300)
        assert (process.returncode, out.strip(), err) == (0, "True True", "")
    assert log.read_text().split() == ["call", "call"]  # compile and link, by one of them
    library = library_in(tmp_path / "cache")
    before = library.stat().st_mtime_ns
    assert step(tmp_path / "cache") == ("True True", "")
    assert library.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "damage",
    ["truncated", *stressed("flipped", "digest missing", "digest cut")],
)
def test_damaged_library_is_recompiled(compiled, tmp_path, damage):
    cache = tmp_path / "cache"
    shutil.copytree(compiled, cache)
    library = library_in(cache)
    content, digest = library.read_bytes(), library.with_name(f"{library.name}.sha256")
    match damage:
        case "truncated":
            library.write_bytes(content[: len(content) // 2])
        case "flipped":
            library.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
        case "digest missing":
            digest.unlink()
        case _:
            digest.write_text(digest.read_text()[:30])
    assert step(cache) == ("True True", "")
    assert hashlib.sha256(library.read_bytes()).hexdigest() == digest.read_text()


def test_cached_library_is_used_without_compiler(compiled):
    assert step(compiled, path="") == ("True True", "")


def test_missing_compiler_falls_back_to_torch_with_one_warning(tmp_path):
    out, err = step(tmp_path, path="")
    assert out == "False True"
    assert err.count("no C++ compiler was found") == 1
    assert not list(tmp_path.iterdir())


def test_failing_compiler_is_reported_with_its_message(tmp_path):
    compiler = tmp_path / "bin" / "c++"
    compiler.parent.mkdir()
    compiler.write_text('#!/bin/sh\necho "out of registers" >&2\nexit 1\n')
    compiler.chmod(0o755)
    out, err = step(tmp_path / "cache", path=f"{compiler.parent}:/bin:/usr/bin")
    assert out == "False True"
    assert "out of registers" in err
    assert not list((tmp_path / "cache").glob("kernels-*.so*"))


def test_compiler_can_be_selected(tmp_path):
    out, err = step(tmp_path, CXX="no-such-compiler")
    assert out == "False True"
    assert "CXX=no-such-compiler" in err


def test_native_kernels_can_be_disabled(compiled):
    assert step(compiled, TRISCALE_NATIVE="0") == ("False True", "")
