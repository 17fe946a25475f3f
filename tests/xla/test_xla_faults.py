"""Trainings with the XLA engine that are killed at random times, or run out of memory."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sizes import figure, size
from training.processes import folder_digest
from triscale.training.state.checkpoint import Checkpoints

pytestmark = pytest.mark.process

SCRIPT = Path(__file__).with_name("process.py")
KILLS = size(3, 200)
LIMITS = [700] if size(0, 1) == 0 else list(range(660, 860, 20))


def begin(devices: int, *arguments: object) -> subprocess.Popen[str]:
    flags = f"--xla_force_host_platform_device_count={devices}"
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
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
        for _ in range(50):
            process = begin(chance.choice((1, 2, 4)), "kills", folder)
            assert process.stdout.readline() == "begins\n"
            try:
                printed, _ = process.communicate(timeout=chance.uniform(0, seconds) if kills < KILLS else 900)
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


@pytest.mark.stress  # how much memory XLA takes differs between runs, so that a limit may be too low
@pytest.mark.parametrize("megabytes", LIMITS)
def test_low_memory_result_is_bitwise_identical(tmp_path, megabytes):
    printed, _ = begin(1, "memory", tmp_path, megabytes).communicate(timeout=500)
    _, *notes = json.loads(printed.splitlines()[-1])
    assert len(notes) == 1
    assert "activation checkpointing is now at level 1 of 1: slower, with the same result" in notes[0]
    assert folder_digest(tmp_path / "little") == folder_digest(tmp_path / "plenty")
    figure(5, "XLA engine: a limit on memory, bitwise the same", 1, 1, megabytes=megabytes)
