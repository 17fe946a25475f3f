"""Progress of a job as bars in a terminal or a notebook, or as lines elsewhere, on standard error."""

from __future__ import annotations

import importlib
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from triscale.progress import NO_PROGRESS, ProgressReporter, format_duration, logger

PLAIN_SECONDS = 4.0
"""Interval between progress lines if the output is not a terminal."""

NOTEBOOK_SECONDS = 0.3
"""Interval between updates in a notebook."""

error_console = Console(stderr=True, highlight=False)


@contextmanager
def progress_reporter() -> Iterator[ProgressReporter]:
    """Provide a progress reporter: bars in a terminal or a notebook, lines elsewhere, nothing with ``--quiet``.

    Progress is written to standard error, in a notebook to the output of the cell.
    """
    if logger.level >= logging.ERROR:
        yield NO_PROGRESS
        return
    if error_console.is_jupyter:
        cell = _NotebookBars()
        yield cell
        cell.finish()
        return
    if not error_console.is_terminal:
        yield _Lines()
        return
    progress = Progress(
        TextColumn("{task.description:<9}"),
        BarColumn(bar_width=16),
        TextColumn("{task.percentage:>4.0f}%"),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=error_console,
        redirect_stdout=sys.stdout.isatty(),  # otherwise results in a pipe or a file would go to standard error
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


class _Phase:
    """A phase of a job: how much of it is done, and how long the rest takes."""

    def __init__(self, title: str, total: int | None) -> None:
        self.title, self.total, self.done, self.text = title, total or 0, 0, ""
        self._first: tuple[float, int] | None = None

    def advance(self, done: int, text: str, now: float) -> None:
        self.done, self.text = done, text
        if self._first is None:
            self._first = now, done

    @property
    def share(self) -> str:
        return f"{self.done / self.total:4.0%}" if self.total else str(self.done)

    def time_left(self, now: float) -> str:
        """Return the time left at the speed since the first report, which may not be at the start."""
        began, before = self._first or (now, self.done)
        if not before < self.done < self.total:
            return ""
        return f"  {format_duration((now - began) * (self.total - self.done) / (self.done - before))} left"


class _Lines:
    """A line at the start of each phase of a job, and every few seconds within it."""

    def __init__(self) -> None:
        self._phase, self._reported = _Phase("", None), 0.0

    def begin(self, title: str, total: int | None = None) -> None:
        if title != self._phase.title:
            _write_line(f"{title} ...")
        self._phase, self._reported = _Phase(title, total), time.monotonic()

    def advance(self, done: int, text: str = "") -> None:
        now = time.monotonic()
        self._phase.advance(done, text, now)
        if now - self._reported >= PLAIN_SECONDS:
            self._reported = now
            _write_line(f"  {self._phase.title} {self._phase.share}  {text}{self._phase.time_left(now)}")

    def note(self, text: str) -> None:
        _write_line(f"note: {text}")


class _NotebookBars:
    """One output of a notebook cell that is updated in place.

    rich's bars need the package ipywidgets in the notebook's server and in its kernel, and without it show nothing.
    """

    def __init__(self) -> None:
        self._display: Any = importlib.import_module("IPython.display")
        self._handle: Any = None
        self._phases: list[_Phase] = []
        self._notes: list[str] = []
        self._drawn = 0.0

    def begin(self, title: str, total: int | None = None) -> None:
        if self._phases and self._phases[-1].title == title:
            self._phases.pop()
        self._complete()
        self._phases.append(_Phase(title, total))
        self._draw()

    def advance(self, done: int, text: str = "") -> None:
        now = time.monotonic()
        self._phases[-1].advance(done, text, now)
        if now - self._drawn >= NOTEBOOK_SECONDS:
            self._draw()

    def note(self, text: str) -> None:
        self._notes.append(text)
        self._draw()

    def finish(self) -> None:
        """Fill the bar of the last phase."""
        self._complete()
        if self._phases:
            self._draw()

    def _complete(self) -> None:
        if self._phases:
            last = self._phases[-1]
            last.total = last.total or 1
            last.done = last.total

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        rows = [
            f"<tr><td>{escape(phase.title)}</td>"
            f'<td><progress value="{phase.done}" max="{phase.total or 1}"></progress></td>'
            f"<td>{phase.share}</td><td>{escape(phase.text + phase.time_left(self._drawn))}</td></tr>"
            for phase in self._phases
        ]
        notes = "".join(f"<div>note: {escape(note)}</div>" for note in self._notes)
        page = self._display.HTML(f"<table>{''.join(rows)}</table>{notes}")
        if self._handle is None:
            self._handle = self._display.display(page, display_id=True)
        else:
            self._handle.update(page)


def _write_line(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
