"""A time limit for a job that ends with the best result so far."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from triscale.progress import format_duration


@dataclass(frozen=True, slots=True)
class Deadline:
    """The end of a job's time.

    Attributes:
        seconds: Time for the whole job; None for no limit.
        started: When the job began, on the clock of ``time.monotonic``.

    Example:
        >>> Deadline().left, Deadline(60, started=0).passed()
        (inf, True)
    """

    seconds: float | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds that are left; less than 0 after the end."""
        return math.inf if self.seconds is None else self.started + self.seconds - time.monotonic()

    def passed(self, needed: float = 0.0) -> bool:
        """Return whether less time is left than is needed."""
        return self.left < needed

    def __str__(self) -> str:
        return "--time-limit" if self.seconds is None else f"--time-limit {format_duration(self.seconds)}"
