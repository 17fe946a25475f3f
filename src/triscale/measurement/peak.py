"""Peak memory of this process, on systems with /proc (Linux)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

_STATUS, _REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def memory_now() -> int | None:
    """Return the resident memory of this process in bytes, or None if the system does not report it."""
    return _read("VmRSS")


def peak_since(before: int | None, call: Callable[[], object]) -> int | None:
    """Return the peak memory during a call minus an earlier value, in bytes, or None if unknown.

    Args:
        before: Result of :func:`memory_now` before the call's data was loaded.
        call: Called once.
    """
    with contextlib.suppress(OSError):
        _REFERENCES.write_text(_RESET_PEAK)
    call()
    peak = _read("VmHWM")
    return None if peak is None or before is None else max(0, peak - before)


def _read(name: str) -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition(":")
        if key == name:
            return 1024 * int(value.split()[0])
    return None
