"""One writer at a time: a lock on an open file, with its owner written inside."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from triscale.compat import lock_file

_POLL_SECONDS = 0.05


class LockedError(Exception):
    """Another process holds the lock; the message names it. Callers turn this into an error of their own."""


@contextmanager
def exclusive_lock(file: Path, *, seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock of a file, which is made if it is missing.

    The lock goes with the process, also when it is killed: there is no stale lock to remove.

    Args:
        file: The lock file; its content is the owner while the lock is held, and nothing afterwards.
        seconds: Time to wait for another owner.

    Raises:
        LockedError: Another process holds the lock for longer than that.
        OSError: The file cannot be written.
    """
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        until = time.monotonic() + seconds
        while not lock_file(handle):
            if time.monotonic() >= until:
                raise LockedError(os.read(handle, 200).decode(errors="replace").strip() or "another process")
            time.sleep(_POLL_SECONDS)
        _write(handle, f"process {os.getpid()} on {socket.gethostname()}")
        try:
            yield
        finally:
            _write(handle, "")
    finally:
        os.close(handle)


def _write(handle: int, text: str) -> None:
    os.ftruncate(handle, 0)
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, text.encode())
