"""Progress of a job as bars in a terminal or a notebook, or as lines elsewhere, on standard error."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from triscale.progress import NO_PROGRESS, ProgressReporter, format_duration, logger

PLAIN_SECONDS = 4.0
"""Interval between progress lines if the output is not a terminal."""

error_console = Console(stderr=True, highlight=False)


@contextmanager
def progress_reporter() -> Iterator[ProgressReporter]:
    """Provide a progress reporter: bars in a terminal or a notebook, lines elsewhere, nothing with ``--quiet``.

    Progress is written to standard error.
    """
    if logger.level >= logging.ERROR:
        yield NO_PROGRESS
        return
    if not (error_console.is_terminal or error_console.is_jupyter):
        yield _Lines()
        return
    progress = Progress(
        TextColumn("{task.description:<9}"),
        BarColumn(bar_width=16),
        TextColumn("{task.percentage:>4.0f}%"),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=error_console,
    )
    with progress:
        bars = _Bars(progress)
        yield bars
        bars.finish()


class _Bars:
    """A progress bar for each phase of a job."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._title = ""

    def begin(self, title: str, total: int | None = None) -> None:
        if self._task is not None and title == self._title:
            self._progress.update(self._task, total=total)
            return
        self.finish()
        self._title = title
        self._task = self._progress.add_task(title, total=total, text="")

    def advance(self, done: int, text: str = "") -> None:
        assert self._task is not None
        self._progress.update(self._task, completed=done, text=text)

    def note(self, text: str) -> None:
        self._progress.console.print(f"note: {text}", markup=False)

    def finish(self) -> None:
        """Fill the bar of the finished phase."""
        if self._task is not None:
            task = next(task for task in self._progress.tasks if task.id == self._task)
            total = task.total if task.total is not None else 1
            self._progress.update(self._task, total=total, completed=total)


class _Lines:
    """A line at the start of each phase of a job, and every few seconds within it."""

    def __init__(self) -> None:
        self._title, self._total, self._reported = "", 0, 0.0
        self._first: tuple[float, int] | None = None

    def begin(self, title: str, total: int | None = None) -> None:
        if title != self._title:
            _write_line(f"{title} ...")
        self._title, self._total, self._reported = title, total or 0, time.monotonic()
        self._first = None

    def advance(self, done: int, text: str = "") -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now, done
        if now - self._reported >= PLAIN_SECONDS:
            self._reported = now
            share = f"{done / self._total:4.0%}" if self._total else str(done)
            _write_line(f"  {self._title} {share}  {text}{self._time_left(now, done)}")

    def _time_left(self, now: float, done: int) -> str:
        """Return the time left at the speed since the first report, which may not be at the start."""
        assert self._first is not None
        began, before = self._first
        if not before < done < self._total:
            return ""
        return f"  {format_duration((now - began) * (self._total - done) / (done - before))} left"

    def note(self, text: str) -> None:
        _write_line(f"note: {text}")


def _write_line(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
