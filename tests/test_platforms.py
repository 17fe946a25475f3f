"""On other operating systems only the features that need a missing facility fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT = """
import sys
for name in ("fcntl", "resource"):
    sys.modules[name] = None
import os
for name in ("sched_getaffinity", "sched_setaffinity", "fork", "pwrite"):
    if hasattr(os, name):
        delattr(os, name)
import importlib, pkgutil
import triscale
"""


def without(code: str) -> str:
    """Run code in a process without ``fcntl``, ``resource`` and the Linux-only functions of ``os``."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + code], capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.process
def test_every_module_imports():
    code = """
for module in pkgutil.walk_packages(triscale.__path__, "triscale."):
    if module.name not in ("triscale.__main__", "triscale.weights.child"):
        importlib.import_module(module.name)
print("all")
"""
    assert without(code) == "all\n"


@pytest.mark.process
def test_networks_are_listed_scaled_and_fitted(tmp_path: Path):
    code = f"""
from triscale.cli import main
main(["list"])
main(["scale", "efficientnet_b0", "--budget", "1G", "--out", {str(tmp_path / "network.json")!r}])
"""
    assert "efficientnet_b7" in without(code)
    assert (tmp_path / "network.json").is_file()


@pytest.mark.process
def test_fit_and_predict_work(images: Path, tiny_file: Path, tmp_path: Path):
    code = f"""
from triscale.cli import main
options = ["--network", {str(tiny_file)!r}, "--epochs", "1", "--threads", "1", "--out", {str(tmp_path / "run")!r}]
main(["train", {str(images)!r}, *options])
main(["predict", {str(tmp_path / "run")!r}, {str(images / "red")!r}])
"""
    assert "000.png" in without(code)


@pytest.mark.process
def test_foreign_pickle_is_rejected_without_process_limits(tmp_path: Path):
    code = f"""
import pathlib, torch
from triscale.errors import WeightsError
from triscale.weights.foreign import open_pickle
file = pathlib.Path({str(tmp_path / "weights.pth")!r})
torch.save({{"weight": torch.zeros(3)}}, file)
try:
    open_pickle(file, "zip")
except WeightsError as error:
    print(error)
"""
    assert "convert the file to safetensors" in without(code)


@pytest.mark.parametrize("wait", [False, True])
def test_windows_lock_is_far_beyond_end_of_file(tmp_path, monkeypatch, wait):
    from triscale import compat

    calls = []

    class Locking:
        LK_LOCK, LK_NBLCK = 1, 2

        @staticmethod
        def locking(handle, mode, count):
            calls.append((os.lseek(handle, 0, os.SEEK_CUR), mode, count))
            if len(calls) == 2 and not wait:
                raise OSError(13, "locked")

    monkeypatch.setattr(compat, "fcntl", None)
    monkeypatch.setattr(compat, "msvcrt", Locking)
    handle = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    try:
        assert compat.lock_file(handle, wait=wait)
        assert compat.lock_file(handle, wait=wait) is wait
    finally:
        os.close(handle)
    assert calls == [(1 << 30, 1 if wait else 2, 1)] * 2
