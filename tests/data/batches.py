"""Batches of one epoch."""

from __future__ import annotations

from collections.abc import Iterator

from triscale.data.images.transforms import Augmentation
from triscale.data.pipeline.loader import Batch, TrainLoader
from triscale.data.pipeline.split import Split
from triscale.network.contract import Preprocessing


def train_batches(
    split: Split,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    *,
    batch: int,
    seed: int,
    epoch: int,
    first_step: int = 0,
    workers: int = 0,
) -> Iterator[Batch]:
    """Yield the batches of one epoch."""
    with TrainLoader(
        split, preprocessing, augmentation, batch=batch, seed=seed, workers=workers, cache_bytes=0
    ) as loader:
        yield from loader.epoch(epoch, first_step)
