"""How a job tells what it does, and how it is told to stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol


class ProgressReporter(Protocol):
    """Somebody who follows a job. A command line draws bars; a script may do nothing."""

    def begin(self, title: str, total: int | None = None) -> None:
        """A part of the job begins; ``total`` is the number of its units where it is known."""

    def advance(self, done: int, text: str = "") -> None:
        """So many units of the part are done."""

    def note(self, text: str) -> None:
        """Something that the person should know."""


class NullProgress:
    """A watcher who looks away."""

    def begin(self, title: str, total: int | None = None) -> None:
        """Do nothing."""

    def advance(self, done: int, text: str = "") -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""


def format_duration(seconds: float) -> str:
    """Return seconds in words of at most two units."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86400
    if minutes < 60:
        return f"{minutes:.0f} min"
    if hours < 48:
        return f"{int(hours)} h {round(minutes % 60)} min"
    return f"{int(days)} d {round(hours % 24)} h"


def with_deadline(should_stop: Callable[[], bool], seconds: float | None) -> Callable[[], bool]:
    """Return a flag that rises as another does, or after so many seconds."""
    if seconds is None:
        return should_stop
    until = time.monotonic() + seconds
    return lambda: should_stop() or time.monotonic() > until


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Turn SIGINT and SIGTERM into a flag for the time of a job; the job polls it, saves and ends.

    Outside the main thread signals cannot be caught, and the flag never rises.
    """
    raised: list[int] = []

    def raise_flag(number: int, frame: FrameType | None) -> None:
        del frame
        raised.append(number)

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, raise_flag)
    except ValueError:
        pass
    try:
        yield lambda: bool(raised)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
