"""Processes that are killed when they enter a system call, by ``strace``."""

from __future__ import annotations

import shutil

import pytest

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


def killing_at(call: str, number: int) -> list[str]:
    """Return the start of a command line that kills the command after it when it enters a call for the n-th time."""
    return ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={call}:signal=SIGKILL:when={number}"]
