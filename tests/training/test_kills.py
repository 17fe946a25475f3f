"""A training killed at random times and resumed ends bitwise identical to an uninterrupted one."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from sizes import figure, size
from training.processes import folder_digest
from training.test_distributed import RECIPE, feed, task
from triscale.training.context import ExecutionContext
from triscale.training.distributed.group import ALONE
from triscale.training.loop import seed_weights, train
from triscale.training.state.checkpoint import Checkpoints

pytestmark = pytest.mark.process

KILLS = size(20, 200)
EPOCHS = 8
RECIPE_OF_KILLS = RECIPE.model_copy(update={"epochs": EPOCHS})
RETRY_POLICY = 60.0


def work(folder: Path, network, reached) -> None:
    torch.set_num_threads(1)
    seed_weights(3)
    given = task(network, RECIPE_OF_KILLS)

    def on_epoch(history) -> None:
        reached.value = len(history)

    train(given, feed(RECIPE_OF_KILLS, ALONE), Checkpoints(folder), ExecutionContext(), on_epoch=on_epoch)
    os._exit(0)


def begin(folder: Path, network):
    context = multiprocessing.get_context("fork")
    reached = context.Value("i", 0)
    process = context.Process(target=work, args=(folder, network, reached), daemon=True)
    process.start()
    return process, reached


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("whole")
    started = time.monotonic()
    process, _ = begin(folder, tiny)
    process.join(RETRY_POLICY)
    return folder_digest(folder), time.monotonic() - started


def test_randomly_killed_training_is_bitwise_identical(tmp_path, tiny, whole):
    digest, seconds = whole
    chance = random.Random(1)
    kills = runs = 0
    while kills < KILLS:
        folder = tmp_path / str(runs)
        for _ in range(50):
            process, reached = begin(folder, tiny)
            process.join(chance.uniform(0, 0.7 * seconds) if kills < KILLS else RETRY_POLICY)
            if process.exitcode is not None:
                break
            os.kill(process.pid, signal.SIGKILL)
            process.join(RETRY_POLICY)
            kills += 1
            result = Checkpoints(folder).newest()
            # The current epoch is lost, and the previous one too if its checkpoint was still being written.
            assert (len(result.history) if result else 0) >= reached.value - 1
        assert process.exitcode == 0
        assert folder_digest(folder) == digest
        runs += 1
    figure(1, "kill -9 at random times, ended bitwise the same", kills, kills, trainings=runs)
