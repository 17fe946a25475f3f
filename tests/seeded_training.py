"""A small training task whose batches are a function of epoch and step, for tests of the training loop."""

import numpy as np
import torch
from torch import nn

from triscale.data.pipeline.loader import Batch
from triscale.network.contract import Preprocessing
from triscale.training.objective import Objective
from triscale.training.recipe import Recipe
from triscale.training.task import BatchSource, TrainingTask

CONTRACT = Preprocessing(resolution=16)


def feed(seed: int = 0, steps: int = 4, batch: int = 8, side: int = CONTRACT.resolution) -> BatchSource:
    """Batches that are a function of (epoch, step)."""

    def batches(epoch: int, first: int):
        for step in range(first, steps):
            rng = np.random.default_rng((seed, epoch, step))
            labels = torch.from_numpy(rng.integers(0, 3, batch))
            images = rng.integers(0, 200, (batch, 3, side, side), dtype=np.uint8)
            images[np.arange(batch), labels.numpy()] += 50
            yield Batch(torch.from_numpy(images), labels, torch.arange(batch))

    return BatchSource(steps_per_epoch=steps, count=lambda step: batch, train=batches, val=lambda: batches(10_000, 0))


def task(model: nn.Module, recipe: Recipe) -> TrainingTask:
    return TrainingTask(
        model=model,
        recipe=recipe,
        preprocessing=CONTRACT,
        classes=3,
        objective=Objective(label_smoothing=recipe.label_smoothing),
        network_digest="",
        seed=1,
    )


def same(one, other):
    return one.keys() == other.keys() and all(
        one[name].numpy().tobytes() == other[name].numpy().tobytes() for name in one
    )
