"""The native kernels are compiled once, whole or not at all; without a compiler training goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

STEP = """
import torch, triscale
from triscale.families import get
from triscale.nn.build import build
model = build(get("mobilenet_v2").replace(classes=3)).train()
model(torch.randn(2, 3, 32, 32)).sum().backward()
print(all(value.grad.isfinite().all() for value in model.parameters()))
"""


def start(cache: Path, path: str | None = None) -> subprocess.Popen[str]:
    environment = os.environ | {"TRISCALE_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    if path is not None:
        environment["PATH"] = path
    return subprocess.Popen(
        [sys.executable, "-c", STEP], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_processes_that_start_at_once_share_one_library(tmp_path):
    running = [start(tmp_path) for _ in range(2)]
    for process in running:
        out, err = process.communicate(timeout=300)
        assert (process.returncode, out.strip(), err) == (0, "True", "")
    (library,) = tmp_path.iterdir()
    assert library.name.startswith("kernels-")
    before = library.stat().st_mtime_ns
    assert start(tmp_path).communicate(timeout=300)[0].strip() == "True"
    assert library.stat().st_mtime_ns == before


def test_without_a_compiler_training_goes_on_and_says_so_once(tmp_path):
    out, err = start(tmp_path, path="").communicate(timeout=300)
    assert out.strip() == "True"
    assert err.count("no C++ compiler was found") == 1
    assert not list(tmp_path.iterdir())


def test_a_compiler_that_fails_is_named_with_its_message(tmp_path):
    compiler = tmp_path / "bin" / "c++"
    compiler.parent.mkdir()
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "out of registers" >&2\nexit 1\n')
    compiler.chmod(0o755)
    out, err = start(tmp_path / "cache", path=f"{compiler.parent}:/bin:/usr/bin").communicate(timeout=300)
    assert out.strip() == "True"
    assert "out of registers" in err
    assert not list((tmp_path / "cache").iterdir())
