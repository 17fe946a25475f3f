"""Speed of a training, reported a few times a second."""

from __future__ import annotations

import time
from collections.abc import Callable

from triscale.progress import ProgressReporter

REPORT_SECONDS = 0.2


class Meter:
    """Counts images and steps."""

    def __init__(self, steps: int, epochs: int, reporter: ProgressReporter) -> None:
        self._steps, self._epochs, self._reporter = steps, epochs, reporter
        self._reported = time.perf_counter()
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
        """Count a step; report the progress if that is due, and read the loss only then (on a GPU it waits for it)."""
        self._images += images
        now = time.perf_counter()
        if now - self._reported < REPORT_SECONDS and step < self._steps:
            return
        self._reported = now
        accuracy = "" if val_top1 is None else f"  val {val_top1:.1%}"
        speed = f"{self.images_per_second:.0f} images/s"
        self._reporter.advance(step, f"epoch {epoch}/{self._epochs}  loss {loss():.3f}{accuracy}  {speed}")
