"""Estimate time, memory and disk usage of a training run from a few real steps on the real images."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from itertools import islice, pairwise
from typing import ClassVar

import torch

from triscale.data.checks.duplicates import find_duplicates
from triscale.data.pipeline.loader import Batch, TrainLoader
from triscale.data.pipeline.split import Split
from triscale.errors import Interrupted
from triscale.jobs.core.networks import cost_of
from triscale.jobs.core.run import Request
from triscale.jobs.data.scanning import scan_with_progress
from triscale.jobs.training.disk_space import needed_bytes, optimizer_values
from triscale.jobs.training.prepare import requested_split, resolve
from triscale.jobs.training.train import decoder_of, repeat_small_dataset
from triscale.measurement.memory import training_memory
from triscale.network.contract import Preprocessing
from triscale.network.custom import AnyNetwork
from triscale.nn.build import build
from triscale.record import Record
from triscale.training.context import ExecutionContext
from triscale.training.distributed.group import ALONE
from triscale.training.imbalance import objective_of
from triscale.training.loop import seed_weights
from triscale.training.state.state import new_state
from triscale.training.step import Stepper

STEPS = 5
"""Number of timed steps, after one warm-up step."""

_FORWARD_SHARE = 1 / 3
"""Time of a forward pass as a fraction of a training step: the backward pass takes about twice as long."""


class TrainingEstimate(Record):
    """Estimated time, memory and disk usage of a training run.

    ``seconds`` is extrapolated from the median time of a few steps, ``seconds_low`` and ``seconds_high`` from the
    quartiles. Export, maps and report are not included. ``memory_bytes`` counts weights, optimizer state and the
    activations of one micro-batch; see :mod:`triscale.measurement.memory`.
    """

    kind_name: ClassVar[str] = "training_estimate"

    network: str
    resolution: int
    macs: int
    params: int
    classes: int
    train_images: int
    val_images: int
    test_images: int
    epochs: int
    steps: int
    seconds: float
    seconds_low: float
    seconds_high: float
    images_per_second: float
    memory_bytes: int
    disk_bytes: int


def estimate_training(request: Request, context: ExecutionContext) -> TrainingEstimate:
    """Scan the images, fit the network and time a few steps whose result is discarded; nothing is written.

    Raises:
        UserError: Invalid input, as in :func:`triscale.jobs.training.prepare.prepare`.
        Interrupted: ``context.should_stop`` returned true.
    """
    recipe = request.recipe
    scanned = scan_with_progress(request.images, context, "stopped; nothing was written", request.data)
    split = requested_split(request, scanned, find_duplicates(scanned))
    network, _ = resolve(request, len(split.classes))
    cost = cost_of(network)
    preprocessing = Preprocessing(
        resolution=network.resolution, crop=recipe.crop_at(network.resolution), bit_depth=split.bit_depth
    )
    with TrainLoader(
        repeat_small_dataset(split, recipe),
        preprocessing,
        recipe.augmentation,
        batch=recipe.batch,
        seed=request.seed,
        workers=context.workers,
        decode_jpeg=decoder_of(recipe),
    ) as loader:
        steps = loader.num_steps
        context.progress.begin("time steps", STEPS + 1)
        seconds = _step_seconds(request, network, preprocessing, split, loader, context)
    quartiles = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else [seconds[0]] * 3
    images = loader.count(0)
    per_epoch = steps + _FORWARD_SHARE * len(split.val) / images
    total = recipe.epochs * per_epoch + _FORWARD_SHARE * len(split.test) / images
    memory = training_memory(
        build(network), -(-recipe.batch // recipe.micro_batches), network.resolution, optimizer_values(recipe)
    )
    return TrainingEstimate(
        network=network.name,
        resolution=network.resolution,
        macs=cost.macs,
        params=cost.params,
        classes=len(split.classes),
        train_images=len(split.train),
        val_images=len(split.val),
        test_images=len(split.test),
        epochs=recipe.epochs,
        steps=steps * recipe.epochs,
        seconds=total * quartiles[1],
        seconds_low=total * quartiles[0],
        seconds_high=total * quartiles[2],
        images_per_second=images / quartiles[1],
        memory_bytes=memory.total_bytes,
        disk_bytes=needed_bytes(cost, recipe),
    )


def _step_seconds(
    request: Request,
    network: AnyNetwork,
    preprocessing: Preprocessing,
    split: Split,
    loader: TrainLoader,
    context: ExecutionContext,
) -> list[float]:
    """Return the duration of each timed step in seconds, data loading included."""
    recipe = request.recipe
    seed_weights(request.seed)
    state = new_state(build(network), recipe, context.device)
    stepper = Stepper(
        state=state,
        forward=state.model,
        recipe=recipe,
        preprocessing=preprocessing,
        classes=len(split.classes),
        objective=objective_of(recipe, split),
        seed=request.seed,
        device=context.device,
        group=ALONE,
        on_message=context.progress.note,
    )
    ended = []
    for number, batch in enumerate(islice(_endless(loader), STEPS + 1)):
        if context.should_stop():
            raise Interrupted("stopped; nothing was written")
        stepper.take(batch, len(batch.labels), rate=1e-9)
        if context.device.type == "cuda":
            torch.cuda.synchronize()
        ended.append(time.perf_counter())
        context.progress.advance(number + 1)
    return [after - before for before, after in pairwise(ended)]


def _endless(loader: TrainLoader) -> Iterator[Batch]:
    epoch = 0
    while True:
        yield from loader.epoch(epoch)
        epoch += 1
