"""How a job reports its progress, and how it is asked to stop."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

logger = logging.getLogger("triscale")

StopFlag = Callable[[], bool]
"""Polled by long jobs; once it returns true, the job saves its state and raises ``Interrupted``."""


class ProgressReporter(Protocol):
    """Follows a job: the command line draws bars, a script may use :class:`NullProgress`."""

    def begin(self, title: str, total: int | None = None) -> None:
        """Start a step of the job; ``total`` is the number of its units where it is known."""

    def advance(self, done: int, text: str = "") -> None:
        """Report the number of units of the step that are done so far."""

    def note(self, text: str) -> None:
        """Report something the user should know, in a sentence."""


class NullProgress:
    """A reporter that ignores everything."""

    def begin(self, title: str, total: int | None = None) -> None:
        """Do nothing."""

    def advance(self, done: int, text: str = "") -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""


class LoggedProgress:
    """A reporter that passes everything to the logger ``triscale``: notes as INFO, steps as DEBUG.

    It is what library calls use unless they are given another; ``logging.getLogger("triscale").setLevel("INFO")`` with
    a handler shows the notes.
    """

    def begin(self, title: str, total: int | None = None) -> None:
        """Log the start of a step."""
        logger.debug("%s (%s)", title, "unknown length" if total is None else total)

    def advance(self, done: int, text: str = "") -> None:
        """Do nothing: a log is no place for progress."""

    def note(self, text: str) -> None:
        """Log a note."""
        logger.info("%s", text)


_received: list[int] = []
"""The signals that raised a stop flag, in order."""

NO_PROGRESS = NullProgress()
LOGGED_PROGRESS = LoggedProgress()


def never_stop() -> bool:
    """Return false: the stop flag of a job that runs to its end."""
    return False


def format_duration(seconds: float) -> str:
    """Return a duration in at most two units.

    Example:
        >>> format_duration(42), format_duration(5400), format_duration(200_000)
        ('42 s', '1 h 30 min', '2 d 8 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86400
    if minutes < 60:
        return f"{minutes:.0f} min"
    if hours < 48:
        return f"{int(hours)} h {round(minutes % 60)} min"
    return f"{int(days)} d {round(hours % 24)} h"


def with_deadline(should_stop: StopFlag, seconds: float | None) -> StopFlag:
    """Return a stop flag that is raised with another one, or after a time.

    Args:
        should_stop: The other flag.
        seconds: Time from now on; None for no limit.
    """
    if seconds is None:
        return should_stop
    until = time.monotonic() + seconds
    return lambda: should_stop() or time.monotonic() > until


@contextmanager
def stop_on_signals() -> Iterator[StopFlag]:
    """Turn SIGINT and SIGTERM into a stop flag while the context lasts.

    The handler only sets the flag; the job polls it, saves and ends. Outside the main thread signals cannot be caught,
    and the flag stays down.
    """
    _received.clear()

    def raise_flag(number: int, frame: FrameType | None) -> None:
        del frame
        _received.append(number)

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, raise_flag)
    except ValueError:
        pass
    try:
        yield lambda: bool(_received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def received_signal() -> int | None:
    """Return the first signal that raised the latest stop flag; None if no signal did."""
    return _received[0] if _received else None
