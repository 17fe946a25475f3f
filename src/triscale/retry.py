"""Retry policy of downloads: how often to try, how long to wait for an attempt, and how long to pause in between."""

from __future__ import annotations

import time
from dataclasses import dataclass

MAX_SUMMARY = 300
"""Maximum number of characters of a foreign error message that is quoted in one of ours."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long a download is tried.

    Attributes:
        attempts: Maximum number of attempts in a row that transfer nothing.
        timeout: Maximum seconds for one attempt.
        pause: Seconds before the second attempt; doubled for every further one (exponential backoff).

    Example:
        >>> policy = RetryPolicy(attempts=4, timeout=10, pause=0.5)
        >>> [policy.backoff(failures) for failures in (1, 2, 3)]
        [0.5, 1.0, 2.0]
    """

    attempts: int
    timeout: float
    pause: float = 0.5

    def backoff(self, failures: int) -> float:
        """Return the seconds to wait after ``failures`` failed attempts, at least one."""
        return float(self.pause * 2 ** (failures - 1))

    def wait(self, failures: int) -> None:
        """Sleep for :meth:`backoff` seconds."""
        time.sleep(self.backoff(failures))


def summarize_error(error: object, max_length: int = MAX_SUMMARY) -> str:
    r"""Return the message of a foreign error on one line, or the name of its type if it has none.

    Example:
        >>> summarize_error(OSError("connection\nreset")), summarize_error(TimeoutError())
        ('connection reset', 'TimeoutError')
    """
    return " ".join(str(error).split())[:max_length] or type(error).__name__
