"""Say, from the first steps of a training, how long it will take."""

from __future__ import annotations

import time

from triscale.progress import ProgressReporter, format_duration

MIN_STEPS, MIN_SECONDS = 3, 2.0
"""Steps and seconds that are timed before the forecast; the first step, which is slower, is not among them."""
WORTH_SECONDS = 20.0
"""A training that ends sooner needs no forecast."""


class ForecastingReporter:
    """A progress reporter that also notes, once, how long the training will take.

    Args:
        reporter: Receives everything, and the note.
        step: Title of the step of the job whose duration is forecast.

    Example:
        >>> from triscale.progress import NullProgress
        >>> reporter = ForecastingReporter(NullProgress())
        >>> reporter.begin("train", 1000)
        >>> reporter.advance(1, "epoch 1/10")
    """

    def __init__(self, reporter: ProgressReporter, step: str = "train") -> None:
        self._reporter, self._step = reporter, step
        self._total: int | None = None
        self._first: tuple[float, int] | None = None

    def begin(self, title: str, total: int | None = None) -> None:
        """Start a step of the job."""
        self._total, self._first = (total if title == self._step else None), None
        self._reporter.begin(title, total)

    def advance(self, done: int, text: str = "") -> None:
        """Report progress; after the first steps, also how long the rest will take."""
        self._reporter.advance(done, text)
        if self._total is None:
            return
        now = time.monotonic()
        if self._first is None or done < self._first[1]:
            self._first = now, done
            return
        began, before = self._first
        if done - before < MIN_STEPS or now - began < MIN_SECONDS:
            return
        seconds = (now - began) * (self._total - done) / (done - before)
        if seconds >= WORTH_SECONDS:
            self._reporter.note(
                f"about {format_duration(seconds)} for the remaining {self._total - done} of {self._total} steps, "
                f"estimated from {done - before} steps"
            )
        self._total = None

    def note(self, text: str) -> None:
        """Pass a note on."""
        self._reporter.note(text)
