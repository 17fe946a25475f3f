"""Speed and time left of a training, told a few times a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

REPORT_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a training stands; ``seconds_left`` is an estimate from the steps of this start."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    val_top1: float | None
    images_per_second: float
    seconds_left: float


class Meter:
    """Counts images and steps."""

    def __init__(self, steps: int, epochs: int, on_progress: Callable[[Progress], None]) -> None:
        self._steps, self._epochs, self._on_progress = steps, epochs, on_progress
        self._started = self._reported = time.perf_counter()
        self._taken = 0
        self.start_epoch()

    def start_epoch(self) -> None:
        """Begin to measure an epoch."""
        self._epoch_started, self._images = time.perf_counter(), 0

    @property
    def epoch_seconds(self) -> float:
        """Seconds since the epoch was begun."""
        return time.perf_counter() - self._epoch_started

    @property
    def images_per_second(self) -> float:
        """Images of the epoch for each second of it."""
        return self._images / max(1e-9, self.epoch_seconds)

    def count(self, images: int, step: int, epoch: int, val_top1: float | None, loss: Callable[[], float]) -> None:
        """Count a step of so many images; tell where the training stands if that is due, and read a loss only then."""
        self._images += images
        self._taken += 1
        now = time.perf_counter()
        if now - self._reported < REPORT_SECONDS and step < self._steps:
            return
        self._reported = now
        self._on_progress(
            Progress(
                epoch=epoch,
                epochs=self._epochs,
                step=step,
                steps=self._steps,
                loss=loss(),
                val_top1=val_top1,
                images_per_second=self.images_per_second,
                seconds_left=(now - self._started) / self._taken * (self._steps - step),
            )
        )
