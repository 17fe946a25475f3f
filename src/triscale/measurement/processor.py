"""The name of the processor; no torch."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """Return the model name of the processor, or ``unknown``."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model") and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"
