"""Small trainings whose batches are a function of epoch and step, for the parts that compare whole trainings."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from triscale import Network, get
from triscale.data.pipeline.loader import Batch
from triscale.errors import Interrupted
from triscale.network.contract import Preprocessing
from triscale.nn.build import build
from triscale.progress import NO_PROGRESS
from triscale.training.accelerator import is_pinned_source
from triscale.training.context import ExecutionContext
from triscale.training.distributed.group import ALONE, Group
from triscale.training.distributed.micro_batches import micro_batch_slices, micro_batches_of
from triscale.training.loop import seed_weights, train
from triscale.training.objective import Objective
from triscale.training.recipe import AdamW, Recipe, RmsProp, Sgd
from triscale.training.state.checkpoint import Checkpoints
from triscale.training.state.state import new_state
from triscale.training.step import Stepper
from triscale.training.task import BatchSource, TrainingTask

SIDE, BATCH, CLASSES, STEPS = 32, 16, 10, 6
RECIPES = {
    "adamw": Recipe(epochs=2, batch=BATCH, optimizer=AdamW()),
    "sgd, 4 micro-batches": Recipe(epochs=2, batch=BATCH, optimizer=Sgd(), learning_rate=0.05, micro_batches=4),
    "rmsprop": Recipe(epochs=2, batch=BATCH, optimizer=RmsProp(), learning_rate=1e-3),
    "mixup and cutmix": Recipe(epochs=2, batch=BATCH, mixup=0.2, cutmix=1.0),
    "frozen norms": Recipe(epochs=2, batch=BATCH, norm_statistics="frozen", layer_decay=0.8, head_epochs=1),
}


def small_network() -> Network:
    """Return EfficientNet-B0 for small images."""
    return get(f"efficientnet_b0@{SIDE}").replace(classes=CLASSES)


def batch_of(place: tuple[int, ...], count: int = BATCH, device: torch.device | None = None) -> Batch:
    """Return random images with classes that their brightness distinguishes, pinned for a GPU."""
    rng = np.random.default_rng(place)
    labels = torch.from_numpy(rng.integers(0, CLASSES, count))
    images = torch.from_numpy(rng.integers(0, 100, (count, 3, SIDE, SIDE), dtype=np.uint8))
    images += (15 * labels).to(torch.uint8)[:, None, None, None]
    if device is not None and is_pinned_source(device):
        images, labels = images.pin_memory(), labels.pin_memory()
    return Batch(images, labels, torch.arange(count))


def source_of(recipe: Recipe, group: Group) -> BatchSource:
    """Return the batches of a training; each process gets its micro-batches."""
    mine = micro_batches_of(group.rank, group.size, recipe.micro_batches)
    parts = micro_batch_slices(BATCH, recipe.micro_batches)
    share = slice(parts[mine.start].start, parts[mine.stop - 1].stop)

    def batches(epoch: int, first: int) -> Iterator[Batch]:
        for step in range(first, STEPS):
            batch = batch_of((epoch, step))
            yield Batch(batch.images[share], batch.labels[share], batch.indices[share])

    return BatchSource(
        steps_per_epoch=STEPS,
        count=lambda step: BATCH,
        train=batches,
        val=lambda: (batch_of((99, number)) for number in range(group.rank, 4, group.size)),
    )


def train_small(
    folder: Path, recipe: Recipe, device: torch.device, *, group: Group = ALONE, stop_after: int | None = None
) -> list[float]:
    """Train from the newest checkpoint of a folder; return the validation losses, or nothing if it was stopped."""
    calls = itertools.count(1)
    seed_weights(1)
    task = TrainingTask(
        model=build(small_network()),
        recipe=recipe,
        preprocessing=Preprocessing(resolution=SIDE),
        classes=CLASSES,
        objective=Objective(label_smoothing=recipe.label_smoothing),
        network_digest="",
        seed=1,
    )
    context = ExecutionContext(
        device=device,
        group=group,
        should_stop=lambda: stop_after is not None and next(calls) > stop_after,
        progress=NO_PROGRESS,
    )
    try:
        manifest = train(task, source_of(recipe, group), Checkpoints(folder), context)
    except Interrupted:
        return []
    return [epoch.val_loss for epoch in manifest.history]


def stepper_of(recipe: Recipe, device: torch.device, network: Network | None = None) -> Stepper:
    """Return what takes the steps of a training of the small network, or of another one."""
    seed_weights(1)
    network = network or small_network()
    state = new_state(build(network), recipe, device)
    return Stepper(
        state=state,
        forward=state.model,
        recipe=recipe,
        preprocessing=Preprocessing(resolution=network.resolution),
        classes=network.classes,
        objective=Objective(label_smoothing=recipe.label_smoothing),
        seed=1,
        device=device,
        group=ALONE,
        on_message=lambda message: None,
    )
