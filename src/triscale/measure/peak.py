"""The most memory that this process took for a while, where the system tells."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

_STATUS, _REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def memory_now() -> int | None:
    """Return the bytes of this process that lie in memory; None where the system does not tell."""
    return _read("VmRSS")


def peak_since(before: int | None, call: Callable[[], object]) -> int | None:
    """Return the most memory during a call beyond what there was before, in bytes; None where it is not known.

    Args:
        before: Of :func:`memory_now`, before what the call needs was loaded.
        call: Is called once.
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
