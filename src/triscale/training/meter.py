"""Training throughput, reported a few times per second."""

from __future__ import annotations

import time
from collections.abc import Callable

from triscale.progress import ProgressReporter

REPORT_SECONDS = 0.2


class Meter:
    """Measures throughput and reports progress.

    Args:
        steps: Steps of the whole training.
        epochs: Epochs of the whole training.
        reporter: Receives the progress.

    Example:
        >>> from triscale.progress import NullProgress
        >>> meter = Meter(steps=10, epochs=1, reporter=NullProgress())
        >>> meter.count(64, step=1, epoch=1, val_score=None, loss=lambda: 0.5)
        >>> meter.images_per_second > 0
        True
    """

    def __init__(self, steps: int, epochs: int, reporter: ProgressReporter) -> None:
        self._steps, self._epochs, self._reporter = steps, epochs, reporter
        self._reported = time.perf_counter()
        self.start_epoch()

    def start_epoch(self) -> None:
        """Restart the measurement for a new epoch."""
        self._epoch_started, self._images = time.perf_counter(), 0

    @property
    def epoch_seconds(self) -> float:
        """Seconds since the start of the epoch."""
        return time.perf_counter() - self._epoch_started

    @property
    def images_per_second(self) -> float:
        """Mean throughput of the epoch so far."""
        return self._images / max(1e-9, self.epoch_seconds)

    def count(self, images: int, step: int, epoch: int, val_score: float | None, loss: Callable[[], float]) -> None:
        """Count a step and report progress if a report is due.

        Args:
            images: Images of the step.
            step: Steps taken so far.
            epoch: Current epoch, from 1.
            val_score: Last validation accuracy, or mean average precision, if there is one.
            loss: Returns the loss; called only for a report, since it synchronizes with a GPU.
        """
        self._images += images
        now = time.perf_counter()
        if now - self._reported < REPORT_SECONDS and step < self._steps:
            return
        self._reported = now
        accuracy = "" if val_score is None else f"  val {val_score:.1%}"
        speed = f"{self.images_per_second:.0f} images/s"
        self._reporter.advance(step, f"epoch {epoch}/{self._epochs}  loss {loss():.3f}{accuracy}  {speed}")
