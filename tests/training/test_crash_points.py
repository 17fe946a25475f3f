"""A save killed at any system call leaves a valid checkpoint; a full disk does not end training."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from sizes import figure
from strace import killing_at, needs_strace
from triscale.errors import JobError
from triscale.training.state.checkpoint import Checkpoints, Manifest, Stored
from triscale.training.state.saver import Saver, Tensors

CALLS = "openat,write,fsync,rename,unlink"


def manifest_of(step: int):
    def made(state_file: Stored, best_file: Stored | None) -> Manifest:
        return Manifest(
            recipe="", network="", seed=0, step=step, finished=False, history=(), best=None,
            state_file=state_file, best_file=best_file,
        )  # fmt: skip

    return made


def tensors(step: int) -> Tensors:
    return Tensors(step, {"weights": torch.full((1000,), float(step)), "more": torch.arange(step + 1)})


def save(folder: Path, step: int) -> None:
    saver = Saver(Checkpoints(folder), print)
    saver.begin(Checkpoints(folder).newest())
    saver.keep_best(tensors(step))
    saver.save_now(tensors(step), manifest_of(step), lambda: False, wait=False)


def killed_at(folder: Path, step: int, call: str, number: int) -> bool:
    """Save in a process that is killed when it enters a system call for the n-th time; return whether it was."""
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
        save(folder, step)
        os._exit(0)
    os.waitpid(child, os.WUNTRACED)
    tracer = subprocess.Popen(
        [*killing_at(call, number), "-p", str(child)],
        stderr=subprocess.PIPE,
    )
    until = time.monotonic() + 20
    while "TracerPid:\t0" in Path(f"/proc/{child}/status").read_text():
        if tracer.poll() is not None or time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.skip(f"strace cannot attach here: {tracer.communicate()[1].decode()[:200]}")
        time.sleep(0.01)
    os.kill(child, signal.SIGCONT)
    _, status = os.waitpid(child, 0)
    tracer.wait(20)
    return os.WIFSIGNALED(status)


@pytest.mark.process
@needs_strace
@pytest.mark.parametrize("call", CALLS.split(","))
def test_save_killed_at_any_call_leaves_valid_state(tmp_path, call):
    save(tmp_path / "base", 1)
    save(tmp_path / "base", 2)
    points = 0
    for number in range(1, 100):
        folder = tmp_path / f"{call}-{number}"
        shutil.copytree(tmp_path / "base", folder)
        killed = killed_at(folder, 3, call, number)
        result = Checkpoints(folder).newest()
        assert result is not None
        assert result.step in ((2, 3) if killed else (3,))
        for file in (result.state_file, result.best_file):
            loaded = Checkpoints(folder).load(file)
            assert torch.equal(loaded["weights"], torch.full((1000,), float(result.step)))
        save(folder, 4)  # leftover files do no harm
        assert Checkpoints(folder).newest().step == 4
        if not killed:
            break
        points += 1
    assert points >= 1, f"a save makes no call {call}"
    assert not killed
    figure(2, f"killed at each {call} of a save, newest state whole", points, points)


SMALL_DISK = """
import sys, os, subprocess
from pathlib import Path
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", sys.argv[1]], check=True)
sys.path.insert(0, sys.argv[2])
import torch
from training import test_crash_points as here
from triscale.training.state import saver as room
from triscale.training.state.checkpoint import Checkpoints
folder = Path(sys.argv[1])
messages = []
saver = room.Saver(Checkpoints(folder), messages.append)
saver.save_now(here.tensors(1), here.manifest_of(1), lambda: False, wait=False)
filler = folder / "filler"
handle = os.open(filler, os.O_WRONLY | os.O_CREAT)
try:
    while True:
        os.write(handle, b"x" * 1024)
except OSError:
    os.close(handle)
saver.save(here.tensors(2), here.manifest_of(2))
saver.settle()
print("one", len(messages), Checkpoints(folder).newest().step)
try:
    saver.save_now(here.tensors(3), here.manifest_of(3), lambda: False, wait=False)
except RuntimeError as error:
    print("two", type(error).__name__, "free some space" in str(error), Checkpoints(folder).newest().step)
room.RETRY_SECONDS = 0.1
def record_and_free(text):
    messages.append(text)
    filler.unlink(missing_ok=True)
waiting = room.Saver(Checkpoints(folder), record_and_free)
waiting.save_now(here.tensors(4), here.manifest_of(4), lambda: False, wait=True)
print("three", Checkpoints(folder).newest().step, len(list(folder.glob(".*part"))))
"""


@pytest.mark.process
def test_full_disk_keeps_training_and_saved_state(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", textwrap.dedent(SMALL_DISK), disk,
         Path(__file__).parent.parent],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()[:200]}")
    assert done.stdout.splitlines() == ["one 1 1", "two JobError True 1", "three 4 0"], done.stderr


def test_other_write_errors_are_raised_immediately(tmp_path):
    (tmp_path / "file").write_text("")
    saver = Saver(Checkpoints(tmp_path / "file" / "below"), print)
    with pytest.raises(JobError, match="cannot be written"):
        saver.save_now(tensors(1), manifest_of(1), lambda: False, wait=True)
