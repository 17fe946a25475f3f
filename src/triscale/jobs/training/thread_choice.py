"""Choose the number of compute threads of a training: all cores, or one if other processes use them.

Threads wait for each other after every operation. Where another process keeps one core busy, all wait for the thread
that shares it, and several threads can be slower than one. The number of threads changes results by rounding, so it is
chosen once, before the run is written, recorded in it, and never changed within a run; a resumed run takes what it
began with.
"""

from __future__ import annotations

import os
import statistics
import time

import torch

from triscale.data.pipeline.loader import Batch
from triscale.errors import Interrupted
from triscale.network.contract import Preprocessing
from triscale.network.custom import AnyNetwork
from triscale.nn.build import build
from triscale.training.context import ExecutionContext
from triscale.training.distributed.group import ALONE
from triscale.training.objective import Objective
from triscale.training.recipe import Recipe
from triscale.training.state.state import new_state
from triscale.training.step import Stepper

WINDOWS = 3
"""Windows with each number of threads, alternating."""
WINDOW_SECONDS = 0.3
MAX_IMAGES = 16
"""Images of a timed step."""


def is_open(context: ExecutionContext) -> bool:
    """Return whether the number of threads is to be chosen: a training on the CPU for which nobody has set it."""
    is_alone = context.group.size == 1 and context.device.type == "cpu"
    return context.chooses_threads and is_alone and os.environ.get("OMP_NUM_THREADS") is None


def choose_threads(network: AnyNetwork, recipe: Recipe, context: ExecutionContext) -> None:
    """Set torch's number of threads to one if that is faster at the moment, and note it.

    Args:
        network: The network to train.
        recipe: How to train it.
        context: Device, progress and stop flag.

    Raises:
        Interrupted: ``context.should_stop`` returned true.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return
    ratio = statistics.median(speed_ratios(network, recipe, context, threads))
    if ratio < 1:
        torch.set_num_threads(1)
        context.progress.note(
            f"1 thread: {threads} threads reach {ratio:.2f} of its speed, because other processes use the CPU or the "
            f"network is small; --threads {threads} uses them anyway"
        )


def keep_threads(threads: int) -> None:
    """Set the number of threads that a run began with, unless this machine has fewer.

    Args:
        threads: The number that the run records.
    """
    if 1 <= threads <= torch.get_num_threads():
        torch.set_num_threads(threads)


def speed_ratios(network: AnyNetwork, recipe: Recipe, context: ExecutionContext, threads: int) -> list[float]:
    """Return the speed with several threads relative to one, for pairs of successive windows of training steps.

    Args:
        network: The network to train, here with random weights and images.
        recipe: How to train it.
        context: Device, progress and stop flag.
        threads: The number of threads, which is also set at the end.

    Raises:
        Interrupted: ``context.should_stop`` returned true.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        number = max(2, min(MAX_IMAGES, recipe.batch))
        recipe = Recipe(batch=number, optimizer=recipe.optimizer, precision=recipe.precision)
        state = new_state(build(network), recipe, context.device)
        images = torch.randint(0, 255, (number, *network.input_shape), dtype=torch.uint8)
        batch = Batch(images, torch.arange(number) % network.classes, torch.arange(number))
        stepper = Stepper(
            state=state,
            forward=state.model,
            recipe=recipe,
            preprocessing=Preprocessing(
                resolution=network.resolution, mean=(0.5,) * images.shape[1], std=(0.25,) * images.shape[1]
            ),
            classes=network.classes,
            objective=Objective(),
            seed=0,
            device=context.device,
            group=ALONE,
            on_message=lambda message: None,
        )
        try:
            for used in (threads, 1):
                _steps_per_second(stepper, batch, used, 0.0)  # allocates memory
            ratios = []
            for _ in range(WINDOWS):
                if context.should_stop():
                    raise Interrupted("stopped; nothing was written")
                several, one = (_steps_per_second(stepper, batch, used, WINDOW_SECONDS) for used in (threads, 1))
                ratios.append(several / one)
            return ratios
        finally:
            torch.set_num_threads(threads)


def _steps_per_second(stepper: Stepper, batch: Batch, threads: int, seconds: float) -> float:
    torch.set_num_threads(threads)
    began, steps = time.perf_counter(), 0
    while steps == 0 or time.perf_counter() - began < seconds:
        stepper.take(batch, len(batch.labels), rate=1e-9)
        steps += 1
    return steps / (time.perf_counter() - began)
