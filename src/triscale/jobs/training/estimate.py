"""Estimate time, memory and disk usage of a training run from a few real steps on the real images."""

from __future__ import annotations

import statistics
from typing import ClassVar

from triscale.data.checks.duplicates import find_duplicates
from triscale.data.pipeline.leaks import find_leaks
from triscale.jobs.core.networks import cost_of
from triscale.jobs.core.run import Request
from triscale.jobs.data.scanning import scan_with_progress
from triscale.jobs.training.disk_space import needed_bytes
from triscale.jobs.training.memory import step_memory
from triscale.jobs.training.prepare import notes_on_images, requested_split
from triscale.jobs.training.settle import Conditions, settle
from triscale.jobs.training.speed import measure_speed
from triscale.jobs.training.train import repeat_small_dataset
from triscale.results.image_size import ImageSized, sides_of
from triscale.training.context import ExecutionContext

_FORWARD_SHARE = 1 / 3
"""Time of a forward pass as a fraction of a training step: the backward pass takes about twice as long."""


class TrainingEstimate(ImageSized):
    """Estimated time, memory and disk usage of a training run.

    ``seconds`` is extrapolated from the median time of a few steps, ``seconds_low`` and ``seconds_high`` from the
    quartiles. Export, maps and report are not included. ``memory_bytes`` counts weights, optimizer state and the
    activations of one micro-batch; see :mod:`triscale.measurement.memory`.
    """

    kind_name: ClassVar[str] = "training_estimate"

    network: str
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


def estimate_training(
    request: Request, context: ExecutionContext, conditions: Conditions | None = None
) -> TrainingEstimate:
    """Scan the images, fit the network and time a few steps whose result is discarded; nothing is written.

    Args:
        request: What would be trained.
        context: Device, workers, progress and stop flag.
        conditions: For what the request leaves open; by default only weights in the cache are considered.

    Raises:
        UserError: Invalid input, as in :func:`triscale.jobs.training.prepare.prepare`.
        Interrupted: ``context.should_stop`` returned true.
    """
    scanned = scan_with_progress(
        request.images, context, "stopped; nothing was written", request.data, uses_splits=request.fold is None
    )
    copies = find_duplicates(scanned)
    split = requested_split(request, scanned, copies)
    leaks = find_leaks(split, copies, scanned.groups)
    for sentence in notes_on_images(request, scanned, split, copies, leaks, listed_in="triscale data check"):
        context.progress.note(sentence)
    request, network, _ = settle(request, split, context, conditions or Conditions(offline=True, warns=False))
    recipe, cost = request.recipe, cost_of(network)
    speed = measure_speed(network, request, repeat_small_dataset(split, recipe), context)
    steps, images = speed.steps_per_epoch, speed.images_per_step
    quartiles = statistics.quantiles(speed.steps, n=4)
    per_epoch = steps + _FORWARD_SHARE * len(split.val) / images
    total = recipe.epochs * per_epoch + _FORWARD_SHARE * len(split.test) / images
    memory = step_memory(network, -(-recipe.batch // recipe.micro_batches), recipe, context.device)
    return TrainingEstimate(
        network=network.name,
        **sides_of(network.input_shape),
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
