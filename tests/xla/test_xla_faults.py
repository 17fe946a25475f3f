"""Trainings with the XLA engine that are killed, whose checkpoints are damaged, or that run out of memory."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from sizes import figure, size, stressed
from strace import killing_at, needs_strace
from training.processes import folder_digest
from triscale.training.state.checkpoint import Checkpoints
from xla.process import EPOCHS, STEPS

pytestmark = pytest.mark.process

SCRIPT = Path(__file__).with_name("process.py")
KILLS = size(1, 200)
CALLS = size(1, 12)
"""Killed at so many calls of each kind, evenly spaced over those of a whole training."""
DAMAGES = size(1, 30)
LIMITS = [640] if size(0, 1) == 0 else list(range(530, 730, 20))


def begin(devices: int, *arguments: object, under: Sequence[str] = ()) -> subprocess.Popen[str]:
    flags = f"--xla_force_host_platform_device_count={devices}"
    command = [*under, sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.Popen(command, env=os.environ | {"XLA_FLAGS": flags}, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Digest of an uninterrupted training, and the seconds of its steps once its functions are in the cache."""
    folders = [tmp_path_factory.mktemp("whole") for _ in range(2)]
    for folder in folders:
        process = begin(4, "kills", folder)
        assert process.stdout.readline() == "begins\n"
        started = time.monotonic()
        process.communicate(timeout=900)
        seconds = time.monotonic() - started
    first, second = map(folder_digest, folders)
    assert first == second
    return first, seconds


def test_randomly_killed_training_is_bitwise_identical(tmp_path, whole):
    """The number of devices changes at every start."""
    digest, seconds = whole
    chance = random.Random(1)
    kills = runs = 0
    while kills < KILLS:
        folder = tmp_path / str(runs)
        for start in range(50):
            process = begin(chance.choice((1, 2, 4)), "kills", folder)
            assert process.stdout.readline() == "begins\n"
            # Later starts get longer, since the machine may have become busier than it was for the whole training.
            until_kill = chance.uniform(0, seconds * (1 + start / 10))
            try:
                printed, _ = process.communicate(timeout=until_kill if kills < KILLS else 900)
            except subprocess.TimeoutExpired:
                process.kill()
                printed, _ = process.communicate()
                kills += 1
            else:
                break
            reached = int(printed.split()[-1]) if printed.split() else 0
            result = Checkpoints(folder).newest()
            # The current epoch is lost, and the previous one too if its checkpoint was still being written.
            assert (len(result.history) if result else 0) >= reached - 1
        assert process.returncode == 0
        assert folder_digest(folder) == digest
        runs += 1
    figure(1, "XLA engine: kill -9 at random times, ended bitwise the same", kills, kills, trainings=runs)


SAVING = ("fsync", "rename")
"""The calls that make a checkpoint permanent."""


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    """How often one thread of a training makes each of these calls: strace counts those of every thread apart."""
    folder = tmp_path_factory.mktemp("counted")
    under = ["strace", "-f", "-qq", "-o", folder / "calls", "-e", ",".join(SAVING)]
    begin(4, "kills", folder / "run", under=under).communicate(timeout=900)
    lines = (folder / "calls").read_text().splitlines()
    threads = {call: Counter(line.split()[0] for line in lines if f"{call}(" in line) for call in SAVING}
    return {call: max(counts.values()) for call, counts in threads.items()}


@needs_strace
@pytest.mark.parametrize("call", ["rename", *stressed("fsync")])
def test_training_killed_during_a_save_is_bitwise_identical(tmp_path, whole, numbers, call):
    """As after a power cut."""
    assert numbers[call] >= EPOCHS
    for index in range(CALLS):
        folder = tmp_path / str(index)
        number = 1 + (2 * index + 1) * numbers[call] // (2 * CALLS)
        killed = begin(4, "kills", folder, under=killing_at(call, number))
        killed.communicate(timeout=900)
        assert killed.returncode == -signal.SIGKILL
        assert begin(4, "kills", folder).wait(900) == 0
        assert folder_digest(folder) == whole[0]
    figure(2, f"XLA engine: killed at {call} calls of saves, ended bitwise the same", CALLS, CALLS)


def test_training_with_a_damaged_checkpoint_is_bitwise_identical(tmp_path, whole):
    chance = random.Random(0)
    process = begin(4, "kills", tmp_path / "killed")
    while process.stdout.readline() not in ("4\n", ""):
        pass
    process.kill()
    process.communicate()
    newest = Checkpoints(tmp_path / "killed").newest()
    assert newest is not None
    assert newest.step >= 2 * STEPS
    for index in range(DAMAGES):
        folder = tmp_path / str(index)
        shutil.copytree(tmp_path / "killed", folder)
        (manifest,) = folder.glob(f"step-{newest.step:09}-*.json")
        path = (folder / newest.state_file.name, manifest)[index % 2]
        content = bytearray(path.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        assert Checkpoints(folder).newest().step < newest.step
        assert begin(4, "kills", folder).wait(900) == 0
        assert folder_digest(folder) == whole[0]
    figure(3, "XLA engine: newest checkpoint damaged, ended bitwise the same", DAMAGES, DAMAGES)


@pytest.mark.stress  # how much memory XLA takes differs between runs, so that a limit may be too low
@pytest.mark.parametrize("megabytes", LIMITS)
def test_low_memory_result_is_bitwise_identical(tmp_path, megabytes):
    # The limit counts addresses, and every thread that allocates would reserve 128 MB of them for itself.
    few = ("env", "MALLOC_ARENA_MAX=1")
    printed, _ = begin(1, "memory", tmp_path, megabytes, under=few).communicate(timeout=500)
    _, *notes = json.loads(printed.splitlines()[-1])
    assert len(notes) == 1
    assert "activation checkpointing is now at level 1 of 1: slower, with the same result" in notes[0]
    assert folder_digest(tmp_path / "little") == folder_digest(tmp_path / "plenty")
    figure(5, "XLA engine: a limit on memory, bitwise the same", 1, 1, megabytes=megabytes)
