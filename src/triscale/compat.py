"""What differs between operating systems, in one place: file locks, directory flushes, memory limits.

Linux and macOS have all of it. On Windows files are locked by ``msvcrt``, a directory cannot be flushed (a rename is
journaled by NTFS itself), and a child process cannot be limited, so that foreign pickles are refused there.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from types import ModuleType


def _optional(name: str) -> ModuleType | None:
    """Import a module of the standard library that some systems lack."""
    try:
        return __import__(name)
    except ImportError:
        return None


fcntl, resource, msvcrt = _optional("fcntl"), _optional("resource"), _optional("msvcrt")

_BUSY = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}


def lock_file(handle: int, *, wait: bool = False) -> bool:
    """Lock an open file for this process; the lock goes with the handle, also when the process is killed.

    Args:
        handle: Descriptor of a file opened for writing.
        wait: Whether to wait for another owner.

    Returns:
        Whether the lock was taken; false if another process holds it and ``wait`` is false.

    Raises:
        OSError: The file system has no locks.
    """
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        elif msvcrt is not None:
            _lock_byte(handle, wait=wait)
    except OSError as error:
        if not wait and error.errno in _BUSY:
            return False
        raise
    return True


def _lock_byte(handle: int, *, wait: bool) -> None:
    """Lock one byte far beyond the end, so that the content can still be read by others."""
    assert msvcrt is not None
    place = os.lseek(handle, 0, os.SEEK_CUR)
    try:
        os.lseek(handle, 1 << 30, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
    finally:
        os.lseek(handle, place, os.SEEK_SET)


def sync_directory(path: Path) -> None:
    """Flush a directory, so that a rename inside it survives a power cut; does nothing where that is not possible."""
    if sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def can_limit_process() -> bool:
    """Whether memory, time and disk of a process can be limited here."""
    return resource is not None and hasattr(resource, "RLIMIT_AS") and Path("/proc/self/status").is_file()


def limit_process(*, memory: int, cpu_seconds: int, file_bytes: int) -> None:
    """Limit this process for good; it leaves no core file either.

    Args:
        memory: Address space in bytes.
        cpu_seconds: Time on the processor.
        file_bytes: Size of any file that it writes.

    Raises:
        OSError: This system has no such limits; :func:`can_limit_process` says so beforehand.
    """
    if resource is None or not can_limit_process():
        raise OSError(errno.ENOSYS, "a process cannot be limited on this system")
    for limit, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
