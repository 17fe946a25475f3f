"""Out of memory changes speed, never the result."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent.parent))  # also when this file is run by itself

from progress import RecordedNotes
from sizes import figure, size, stressed
from training.processes import folder_digest
from triscale.data.pipeline.loader import Batch
from triscale.errors import JobError
from triscale.network.contract import Preprocessing
from triscale.network.spec import BatchNorm, Head, MBConv, Network, Stage, Stem
from triscale.nn.build import build
from triscale.training.context import ExecutionContext
from triscale.training.loop import seed_weights, train
from triscale.training.objective import Objective
from triscale.training.recipe import Recipe
from triscale.training.recompute import MAX_CHECKPOINT_LEVEL, with_recomputation
from triscale.training.state.checkpoint import Checkpoints
from triscale.training.task import BatchSource, TrainingTask

SIDE, BATCH = 64, 48
CPU = torch.device("cpu")


BLOCK = MBConv(expansion=6, kernel=3, se_ratio=0.25)
DEEP = Network(
    name="deep",
    stem=Stem(width=16),
    stages=(Stage(block=BLOCK, width=16, repeats=4), Stage(block=BLOCK, width=24, repeats=4, stride=2)),
    head=Head(width=32),
    resolution=SIDE,
    classes=3,
    dropout=0.2,
    drop_path=0.2,
    norm=BatchNorm(momentum=0.1),
)
"""A network whose maps take far more memory than its weights."""


def feed(steps: int = 2) -> BatchSource:
    def batches(epoch: int, first: int):
        for step in range(first, steps):
            rng = np.random.default_rng((epoch, step))
            images = rng.integers(0, 255, (BATCH, 3, SIDE, SIDE), dtype=np.uint8)
            yield Batch(torch.from_numpy(images), torch.from_numpy(rng.integers(0, 3, BATCH)), torch.arange(BATCH))

    return BatchSource(
        steps_per_epoch=steps, count=lambda step: BATCH, train=batches, val=lambda: batches(9, steps - 1)
    )


def train_within(folder: Path, room_bytes: int) -> list[str]:
    """Train in this process with a limit on additional memory; 0 means no limit."""
    torch.set_num_threads(1)
    recorded = RecordedNotes()
    notes = recorded.notes
    seed_weights(1)
    task = TrainingTask(
        model=build(DEEP),
        recipe=Recipe(epochs=1, batch=BATCH, warmup_epochs=0, label_smoothing=0),
        preprocessing=Preprocessing(resolution=SIDE),
        classes=3,
        objective=Objective(),
        network_digest="",
        seed=1,
    )
    if room_bytes:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + room_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        train(task, feed(), Checkpoints(folder), ExecutionContext(progress=recorded))
    except JobError as error:
        notes.append(str(error))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return notes


def trained(folder: Path, megabytes: int) -> list[str]:
    """Train in a new process: a used one has freed memory that the limit does not count."""
    done = subprocess.run(
        [sys.executable, __file__, str(folder), str(megabytes)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    notes: list[str] = json.loads(done.stdout.splitlines()[-1])
    return notes


@pytest.fixture(scope="module")
def plenty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plenty")
    assert trained(folder, 0) == []
    return folder_digest(folder)


LIMITS = [140, *stressed(200)] if size(0, 1) == 0 else [140, 150, 160, 170, 180, 190, 200, 210, 220, 230]


@pytest.mark.process
@pytest.mark.parametrize("megabytes", LIMITS)
def test_low_memory_result_is_bitwise_identical(tmp_path, plenty, megabytes):
    notes = trained(tmp_path, megabytes)
    assert notes
    assert all("slower, with the same result" in note for note in notes)
    assert folder_digest(tmp_path) == plenty
    figure(5, "a limit on memory, bitwise the same", 1, 1, megabytes=megabytes)


@pytest.mark.process
@pytest.mark.stress
def test_insufficient_memory_error_suggests_fix(tmp_path):
    assert "--set micro_batches=2" in trained(tmp_path, 40)[-1]


@pytest.mark.parametrize("checkpoint_level", range(1, MAX_CHECKPOINT_LEVEL + 1))
@pytest.mark.parametrize("own", [False, True], ids=["network", "own module"])
def test_recomputation_is_bitwise_identical(checkpoint_level, own):
    """Gradients and random numbers match; the caller restores the running statistics."""

    def gradients(level: int) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model: nn.Module = build(DEEP) if not own else nn.Sequential(nn.Sequential(build(DEEP)), nn.Dropout(0.5))
        images = torch.randn(4, 3, SIDE, SIDE)
        with with_recomputation(model.train(), level):
            model(images).square().sum().backward()
        return [parameter.grad for parameter in model.parameters()]

    for one, other in zip(gradients(0), gradients(checkpoint_level), strict=True):
        assert torch.equal(one, other)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(train_within(Path(sys.argv[1]), int(sys.argv[2]) << 20)))
